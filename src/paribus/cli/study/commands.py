"""`paribus study plan | run | status | import`: from a question to rows on record. Only `plan` needs torch."""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from paribus.cli.options import Parser, parsed
from paribus.cli.study import cluster
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, OK, REQUEUE, STUDY_FAILED
from paribus.core.terminal import format_clock
from paribus.study import plan as plans
from paribus.study import rows as record
from paribus.study.runner import cells, devices
from paribus.study.runner import import_rows as importing
from paribus.study.slurm import queue
from paribus.study.spec import RESULTS, Study, load_study
from paribus.study.status import Status, build_status, to_json

LOG_LINES = 8  # of a failed cell's log that are shown


def run(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"], []):
        parser().print_help()
        return OK
    if arguments[0] == "report":
        from paribus.cli.study.report import run as report

        return report(arguments[1:])
    known = {"plan": plan, "run": run_cells, "status": status, "cancel": cancel, "import": import_rows, "cell": cell}
    if arguments[0] not in known:
        there = [name for name in known if name != "cell"]  # for batch scripts
        raise ConfigError(f"study {arguments[0]}: no such command; there are {', '.join([*there, 'report'])}")
    asked = parsed(parser(), arguments)
    if asked is None:
        return OK
    command: Callable[[argparse.Namespace], int] = known[arguments[0]]
    return command(asked)


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="paribus study",
        description="A study is a folder with a study.yaml: a question, its arms, seeds.",
        epilog="paribus study report FOLDER makes verdicts, tables and figures of the rows; its --help says more.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    each = {
        "plan": "compose and check every cell, freeze plan.jsonl, say what would run and for how long",
        "run": "run every cell that is not done; the same command again goes on",
        "status": "what is done, running, failed and waiting, by arm",
        "import": "take in rows of runs that were made elsewhere",
    }
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in each.items()}
    for name, sub in made.items():
        sub.add_argument("study", type=Path, metavar="FOLDER", help="the study's folder, e.g. experiments/quickstart")
        if name != "import":
            sub.add_argument("--runs", type=Path, metavar="DIR", help="where run folders lie (default: runs/STUDY)")
    for name in ("plan", "run"):
        made[name].add_argument(
            "--workers", type=_count, metavar="K", help="cells at a time (default: by cores or GPUs)"
        )
        made[name].add_argument("--repeat", action="store_true", help="cells that are on record count as not done yet")
    made["plan"].add_argument(
        "--power", action="store_true", help="seeds needed for the smallest effect, by the rows so far"
    )
    made["plan"].add_argument("--quiet", action="store_true", help="only check and freeze")
    made["run"].add_argument(
        "--per-gpu", type=_count, default=1, metavar="M", help="cells at a time on one GPU (default: 1)"
    )
    cluster.add_options(made["run"])
    cluster.add_commands(commands, "take back the cells that wait or run on a Slurm cluster")
    made["status"].add_argument("--json", action="store_true", help="for other programs, with one entry a cell")
    made["import"].add_argument("found", type=Path, nargs="+", metavar="RUN|FILE", help=f"run folders, or a {RESULTS}")
    return top


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; should be a whole number, at least 1")
    return int(text)


def plan(asked: argparse.Namespace) -> int:
    study = load_study(asked.study)
    rows = record.read_rows(study.results_path)
    from paribus.recipe.arms import build_plan  # torch comes with it, and only once study.yaml is known to be sound

    try:
        made = build_plan(study)
    except ConfigError as error:
        raise ConfigError(f"{study.folder}: {error}") from error
    plans.freeze(study, made, rows)
    if asked.quiet:
        return OK
    workers = asked.workers or _workers(study, made)
    found = build_status(made, [] if asked.repeat else rows, _runs(asked, study), time.time(), workers)
    print(f"{study.name}: {study.spec.question}\n")
    _table(found, study)
    missing = len(made.cells) - found.counts()["done"] - found.counts()["running"]
    if missing:
        known = (
            f"about {format_clock(found.seconds_left)} with {workers} at a time"
            if found.seconds_left is not None
            else "no run tells for how long"
        )
        print(f"\n{missing} to run: {known}")
    print(f"plan: {study.plan_path}")
    if asked.power:
        from paribus.cli.study.power import power_lines

        print("\n" + "\n".join(power_lines(study, rows)))
    return OK


def run_cells(asked: argparse.Namespace) -> int:
    from paribus.study.runner.launcher import Launch, LaunchSettings
    from paribus.study.runner.progress import LaunchProgress
    from paribus.study.runner.signals import LaunchStop

    cluster.check(asked)
    study, leave = load_study(asked.study), LaunchStop()
    runs = _runs(asked, study)
    print(f"{study.name}: {study.spec.question}", file=sys.stderr if asked.dry_run else sys.stdout, flush=True)
    # a process of its own composes, so that this one stays small for as long as the cells run
    code = subprocess.call([sys.executable, "-P", "-m", "paribus.cli", "study", "plan", str(asked.study), "--quiet"])
    if code != OK:
        return code if code > 0 else BAD_CONFIG
    made = plans.require_plan(study)
    if asked.cluster:
        return cluster.send(asked, study, made, runs)
    gpus = devices.list_gpus() if any(d in ("auto", "cuda") for d in made.devices.values()) else []
    workers = asked.workers or _workers(study, made, gpus, asked.per_gpu)
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{runs} cannot be made: {error.strerror}; choose another with --runs DIR") from error
    leave.listen(runs / "launch.log")
    board, began = LaunchProgress(), time.monotonic()
    launch = Launch(study, made, LaunchSettings(runs, workers, gpus, asked.per_gpu, asked.repeat), board, leave)
    try:
        launch.run()
    finally:
        board.detach()
    running = [
        *(child.process.pid for child in launch.children.values()),
        *(s.process for _, s in launch.external_cells.values()),
    ]
    again = shlex.join(["paribus", "study", "run", str(asked.study)])
    if leave.requested:
        print(
            f"left: {len(running)} cells go on ({again} finds them); kill {' '.join(str(p) for p in running if p)} "
            "would stop them with a checkpoint"
            if running
            else f"left: nothing runs; {again} goes on"
        )
        return REQUEUE
    print(
        f"{len(launch.done)} of {len(made.cells)} done in {format_clock(time.monotonic() - began)}: "
        f"{study.results_path}"
    )
    equal, different = launch.compare_repeated()
    if equal or different:
        print(f"repeated what was on record: {len(equal)} cells equal it bit for bit, {len(different)} do not", end="")
        print(f" ({', '.join(different[:8])})" if different else "")
    if launch.failed:
        _list_failed(launch.failed, made, runs)
        return STUDY_FAILED
    return OK


def _list_failed(failed: dict[str, str], made: plans.Plan, runs: Path) -> None:
    print(f"{len(failed)} failed:", file=sys.stderr)
    for name, why in failed.items():
        log = cells.log_path(runs, made.by_name()[name])
        print(f"\n  {name}: {why}", file=sys.stderr)
        for line in cells.read_last_output(log, LOG_LINES):
            print(f"    | {line}", file=sys.stderr)
        print(f"    log: {log}", file=sys.stderr)


def status(asked: argparse.Namespace) -> int:
    study = load_study(asked.study)
    made, runs = plans.require_plan(study), _runs(asked, study)
    if queue.has_jobs(runs):
        queue.record_missing_rows(study, made, runs)
    found = build_status(made, record.read_rows(study.results_path), runs, time.time())
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    if asked.json:
        print(json.dumps(to_json(found, study.spec.arms), indent=2))
        return OK
    _table(found, study)
    running = found.counts()["running"]
    if running and found.seconds_left is not None:
        print(f"\nabout {format_clock(found.seconds_left)} left with {running} at a time")
    for cell, now in found.cell_states:
        if now.state in ("failed", "cancelled"):
            print(f"{now.state}: {cell.name}: {now.why}")
    return OK


def cell(asked: argparse.Namespace) -> int:
    study = load_study(asked.study)
    return cluster.cell(asked, study, _runs(asked, study))


def cancel(asked: argparse.Namespace) -> int:
    study = load_study(asked.study)
    return cluster.cancel(study, _runs(asked, study))


def _table(found: Status, study: Study) -> None:
    states = found.states()
    rows = [("arm", "cells", *states)]
    counts = {arm: found.counts(arm) for arm in study.spec.arms} | {"all": found.counts()}
    rows += [(arm, str(sum(n.values())), *(str(n[state]) for state in states)) for arm, n in counts.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *others in rows:
        print("  ".join([first.ljust(widths[0]), *(o.rjust(w) for o, w in zip(others, widths[1:], strict=True))]))


def import_rows(asked: argparse.Namespace) -> int:
    study = load_study(asked.study)
    made, rows = plans.require_plan(study), record.read_rows(study.results_path)
    found: list[importing.ForeignRow] = []
    for path in asked.found:
        if path.is_file():
            found += importing.read_results_file(path)
        elif path.is_dir():
            found.append(importing.read_run_folder(path, _computed(path)))
        else:
            raise ConfigError(f"{path}: nothing there; a run folder or a {RESULTS} is needed")
    new = importing.select_new_rows(study, made, found, rows)
    record.update_rows(study, new, made.ids())
    print(f"{len(new)} of {len(found)} rows are new: {study.results_path}")
    return OK


def _computed(folder: Path) -> dict[str, object]:
    """What a run folder's recipe computes, without the seed."""
    from paribus.recipe.recipe import rebuild_recipe  # torch comes with it

    recipe = rebuild_recipe({**runfolder.read_config(folder), "packages": []})
    return {key: value for key, value in recipe.computed.items() if key != "seed"}


def _runs(asked: argparse.Namespace, study: Study) -> Path:
    return asked.runs.expanduser() if asked.runs else Path("runs") / study.name


def _workers(study: Study, made: plans.Plan, gpus: list[str] | None = None, per_gpu: int = 1) -> int:
    """As many cells as there are GPUs, or as fit on the cores with a study's threads."""
    gpus = devices.list_gpus() if gpus is None and any(d != "cpu" for d in made.devices.values()) else gpus or []
    return len(gpus) * per_gpu if gpus else max(1, devices.count_cores() // study.spec.threads)

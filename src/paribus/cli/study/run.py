"""`paribus study run`: every cell that is not done, as local processes or as cluster jobs. Needs no torch."""

import argparse
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from paribus.cli.several_runs import leave_out_wandb_id
from paribus.cli.study import cluster, tuning
from paribus.cli.study.common import choose_workers, runs_folder, where_options
from paribus.cli.study.repeat import announce, finish
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, OK, REQUEUE, STUDY_FAILED
from paribus.core.formatting import format_clock, format_list
from paribus.study import plan as plans
from paribus.study.load import load_study
from paribus.study.plan import Cell, Plan
from paribus.study.runner import cells, devices
from paribus.study.runner.launcher import Launch
from paribus.study.runner.launchers import is_anothers
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.repeat import find_next
from paribus.study.runner.signals import LaunchStop
from paribus.study.runner.slots import LaunchSettings
from paribus.study.spec import Study

LOG_LINES = 8  # of a failed cell's log that are shown


def run(args: argparse.Namespace) -> int:
    cluster.check(args)
    if args.until_decided and args.repeat:
        raise ConfigError("--until-decided: a repeat trains what is on record and decides nothing; leave one out")
    leave_out_wandb_id()
    leave = LaunchStop(time.monotonic() + (args.time_limit or math.inf))
    study = load_study(args.study)
    print(f"{study.name}: {study.spec.question}", file=sys.stderr if args.dry_run else sys.stdout, flush=True)
    if (code := compose(args)) != OK:
        return code
    if study.spec.tune is not None:
        stage_code = tuning.run_stage(
            args,
            study,
            lambda stage, plan, wanted: run_cells(args, stage, plan, leave, wanted),
            lambda: compose(args, ["--count-failed"]),
        )
        if stage_code is not None:
            return stage_code
    plan = plans.require_plan(study)
    if not args.until_decided:
        return run_cells(args, study, plan, leave)
    from paribus.cli.study.until_decided import run_until_decided  # SciPy comes with it

    return run_until_decided(args, study, plan, lambda cells: run_cells(args, study, plan, leave, cells))


def compose(args: argparse.Namespace, options: Sequence[str] = ()) -> int:
    """Plan the study, in a separate process so that this one stays small while the cells run; its exit code."""
    configs = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    plan = [*("study", "plan", str(args.study)), *configs, *options, "--quiet"]
    code = subprocess.call([sys.executable, "-P", "-m", "paribus.cli", *plan])
    return code if code >= 0 else BAD_CONFIG


def run_cells(
    args: argparse.Namespace, study: Study, plan: Plan, leave: LaunchStop, chosen: Sequence[Cell] | None = None
) -> int:
    """Run cells of the plan, all unless some are chosen, here or on the cluster; the exit code."""
    runs = runs_folder(args, study)
    if args.repeat:
        runs = find_next(runs)
        print(announce(runs), file=sys.stderr if args.dry_run else sys.stdout, flush=True)
    wanted = plan.cells if chosen is None else tuple(chosen)
    if args.cluster:
        return cluster.send(args, study, plan, runs, wanted)
    gpus = devices.list_gpus() if any(d in ("auto", "cuda") for d in plan.devices.values()) else []
    workers = args.workers or choose_workers(study, plan, gpus, args.per_gpu)
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{runs} cannot be created: {error.strerror}; choose another with --runs DIR") from error
    leave.listen(runs / "launch.log")
    board, began = LaunchProgress(), time.monotonic()
    settings = LaunchSettings(runs, workers, gpus, args.per_gpu, args.repeat, fill=not args.workers)
    launch = Launch(study, plan, settings, board, leave, wanted)
    try:
        launch.run()
    finally:
        board.detach()
    if leave.requested:
        _print_left(launch, args)
        return REQUEUE
    if launch.is_unfinished():
        _print_time_is_up(launch, args, time.monotonic() - began)
        return REQUEUE
    _print_done(launch, time.monotonic() - began)
    code = finish(study, plan, runs) if args.repeat else OK
    if launch.failed:
        _print_failed(launch.failed, plan, runs)
        return STUDY_FAILED
    return code


def _print_time_is_up(launch: Launch, args: argparse.Namespace, seconds: float) -> None:
    print("the time is up: ", end="")
    _print_done(launch, seconds)
    if launch.failed:
        _print_failed(launch.failed, launch.plan, launch.settings.runs)
    if launch.stopping:
        print(f"still running {launch.settings.grace_s:.0f} s after SIGTERM: {format_list(launch.stopping)}")
    _print_left(launch, args)


def _print_left(launch: Launch, args: argparse.Namespace) -> None:
    """What is still running after a stop, and how to resume."""
    again = shlex.join(["paribus", *resume_words(args)])
    external = (now for _, now in launch.external_cells.values())
    running = [
        *(child.process.pid for child in launch.children.values()),
        *(now.process for now in external if not is_anothers(launch.settings.runs, now, launch.name)),
    ]
    if not running:
        print(f"stopped, nothing is running: {again} resumes")
        return
    known = " ".join(str(process) for process in running if process)
    stop = f"; kill {known} stops them with a checkpoint" if known else ""
    print(f"detached, {len(running)} still running: {again} finds them{stop}")


def resume_words(args: argparse.Namespace) -> list[str]:
    """The command that goes on: of a stage the one that was typed."""
    if args.typed[1] != "run":
        return list(args.typed)
    return ["study", "run", str(args.study), *where_options(args), *(["--until-decided"] if args.until_decided else [])]


def _print_done(launch: Launch, seconds: float) -> None:
    print(f"{len(launch.done)} of {len(launch.cells)} done in {format_clock(seconds)}: {launch.results_path}")


def _print_failed(failed: dict[str, str], plan: Plan, runs: Path) -> None:
    print(f"{len(failed)} failed:", file=sys.stderr)
    for name, why in failed.items():
        log = cells.log_path(runs, plan.by_name()[name])
        print(f"\n  {name}: {why}", file=sys.stderr)
        for line in cells.read_last_output(log, LOG_LINES):
            print(f"    | {line}", file=sys.stderr)
        print(f"    log: {log}", file=sys.stderr)

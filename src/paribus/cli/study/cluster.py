"""`paribus study run --cluster slurm`, `study cell`, `study cancel`: send cells to Slurm, be one, take them back."""

import argparse
import shlex
import sys
from collections import Counter
from pathlib import Path

from paribus.cli.options import Parser
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.study import plan as plans
from paribus.study import rows as record
from paribus.study.plan import Cell, Plan
from paribus.study.slurm import queue, script
from paribus.study.slurm.script import JobOptions
from paribus.study.spec import Study

_PASSED_ON = ("partition", "account", "qos", "constraint", "time", "mem")  # options of sbatch, under their own names


def add_options(run: argparse.ArgumentParser) -> None:
    """To `paribus study run`."""
    group = run.add_argument_group("on a cluster", "send the cells that are not done as a Slurm array, and return")
    group.add_argument("--cluster", choices=["slurm"], help="--workers then is how many may run at a time")
    group.add_argument(
        "--template", metavar="FILE", help=f"batch script, or {', '.join(script.list_templates())} (default: one_gpu)"
    )
    group.add_argument("--dry-run", action="store_true", help="print the script and send nothing")
    for name in _PASSED_ON:
        group.add_argument(f"--{name}", metavar="X", help=f"sbatch --{name}=X, of each cell")
    group.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="any other: --sbatch=--exclusive; repeatable"
    )
    group.add_argument("--gpus", type=_number, metavar="N", help="of each node (default: 1, 0 if every arm is on CPU)")
    group.add_argument("--cpus", type=_number, metavar="N", help="of each process (default: the study's threads)")
    group.add_argument(
        "--nodes", type=_number, default=2, metavar="N", help="of each cell, for many_nodes (default: 2)"
    )
    group.add_argument("--tasks", type=_number, default=0, metavar="N", help="processes a node (default: one a GPU)")


def add_commands(commands: "argparse._SubParsersAction[Parser]", cancel: str) -> None:
    cell = commands.add_parser("cell", description="Train one cell inside a Slurm job; batch scripts call this.")
    cell.add_argument("--cell", required=True, metavar="ARM/sSEED")
    cell.add_argument("--launcher", default="", metavar="COMMAND", help="what starts its processes, e.g. 'srun -n 8'")
    made = [cell, commands.add_parser("cancel", help=cancel, description=cancel)]
    for sub in made:
        sub.add_argument("study", type=Path, metavar="FOLDER")
        sub.add_argument("--runs", type=Path, metavar="DIR", help="where run folders lie (default: runs/STUDY)")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}; should be a whole number")
    return int(text)


def check(asked: argparse.Namespace) -> None:
    """Raises ConfigError for options of a cluster without one."""
    given = [name for name in (*_PASSED_ON, "template", "dry_run", "sbatch", "gpus", "cpus") if getattr(asked, name)]
    if asked.cluster is None and given:
        raise ConfigError(f"--{given[0].replace('_', '-')}: is of --cluster slurm, which is not asked for")


def send(asked: argparse.Namespace, study: Study, plan: Plan, runs: Path) -> int:
    """Send what is neither done nor on its way."""
    job = _job(asked, study, plan)
    if asked.dry_run:
        missing, _ = _sorted_out(asked, study, plan, runs)
        if missing:
            print(script.build_script(job, study, runs, missing), end="")
        print(f"{len(missing)} cells would be sent", file=sys.stderr)
        return OK
    with queue.submission_lock(runs):
        queue.record_missing_rows(study, plan, runs)
        missing, counts = _sorted_out(asked, study, plan, runs)
        ids = queue.submit(study, plan, runs, missing, job) if missing else []
    told = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "pending", "requeued"))
    print(f"{len(plan.cells)} cells: {told}, {len(missing)} sent" + (f" as job {', '.join(ids)}" if ids else ""))
    where = ["--runs", str(asked.runs)] if asked.runs else []
    print(f"{shlex.join(['paribus', 'study', 'status', str(asked.study), *where])} tells how they stand")
    return OK


def _sorted_out(asked: argparse.Namespace, study: Study, plan: Plan, runs: Path) -> tuple[list[Cell], Counter[str]]:
    """The cells to send, and how many are in each state."""
    rows = record.read_rows(study.results_path)
    recorded = {row.cell for row in rows if row.state == "done" and not asked.repeat}
    known = queue.read_cell_states(plan, runs, recorded)
    missing = [cell for cell in plan.cells if known[cell.name].state in ("waiting", "failed", "cancelled")]
    return missing, Counter(now.state for now in known.values())


def _job(asked: argparse.Namespace, study: Study, plan: Plan) -> JobOptions:
    on_gpus = any(device in ("auto", "cuda") for device in plan.devices.values())
    options = [(name, value) for name in _PASSED_ON if (value := getattr(asked, name))]
    for text in asked.sbatch:
        key, _, value = text.lstrip("-").partition("=")
        options.append((key, value))
    return JobOptions(
        template=asked.template or "one_gpu",
        options=options,
        gpus=asked.gpus if asked.gpus is not None else int(on_gpus),
        nodes=asked.nodes,
        tasks=asked.tasks,
        cpus=asked.cpus or study.spec.threads,
        at_once=asked.workers or 0,
    )


def cell(asked: argparse.Namespace, study: Study, runs: Path) -> int:
    from paribus.study.slurm.array_task import run_cell

    made = plans.require_plan(study)
    found = made.by_name().get(asked.cell)
    if found is None:
        raise ConfigError(f"--cell: found {asked.cell}; {study.plan_path} has no such cell (any more)")
    return run_cell(study, made, runs, found, shlex.split(asked.launcher))


def cancel(study: Study, runs: Path) -> int:
    made = plans.require_plan(study)
    known = queue.read_cell_states(made, runs, ())
    latest = queue.read_tasks(runs)
    alive = ("pending", "requeued", "running")
    open_ = [latest[name] for name, now in known.items() if name in latest and now.state in alive]
    if open_:
        queue.cancel(open_)
    print(f"{len(open_)} cells taken back; the same study run command sends them again")
    return OK

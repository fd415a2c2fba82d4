"""`paribus study run --cluster slurm`, `study cell` and `study cancel`: submit cells to Slurm, run one, cancel them."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paribus.cli.arguments.study import SBATCH
from paribus.cli.study.common import newest_repeat, runs_folder, where_options
from paribus.cli.study.repeat import finish
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.load import load_study
from paribus.study.plan import Cell, Plan
from paribus.study.runner.repeat import results_path
from paribus.study.slurm import queue, script
from paribus.study.slurm.script import JobOptions
from paribus.study.spec import Study
from paribus.study.tuned import find_chosen, open_stage


def check(args: argparse.Namespace) -> None:
    """Raises ConfigError for options of --cluster without it, and for --for with it."""
    given = [name for name in (*SBATCH, "template", "dry_run", "sbatch", "gpus", "cpus") if getattr(args, name)]
    if args.cluster is None and given:
        raise ConfigError(f"--{given[0].replace('_', '-')}: needs --cluster slurm")
    if args.cluster and args.time_limit:
        raise ConfigError("--for: is for cells on this machine; with --cluster slurm, give each cell a limit by --time")


def send(args: argparse.Namespace, study: Study, plan: Plan, runs: Path, cells: Sequence[Cell]) -> int:
    """Submit those of the cells that are neither done nor queued nor running. A repeat of which all is done is compared
    instead."""
    job = _make_job(args, study, plan)
    if args.dry_run:
        missing, _ = _sort_out(args, study, plan, runs, cells)
        if missing:
            print(script.build_script(job, study, runs, missing), end="")
        print(f"{len(missing)} cells would be submitted", file=sys.stderr)
        return OK
    with queue.submission_lock(runs):
        queue.record_missing_rows(study, plan, runs, results_path(study, runs, args.repeat))
        missing, counts = _sort_out(args, study, plan, runs, cells)
        ids = queue.submit(study, plan, runs, missing, job) if missing else []
    states = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "pending", "requeued"))
    print(f"{len(cells)} cells: {states}, {len(missing)} submitted" + (f" as job {', '.join(ids)}" if ids else ""))
    if args.repeat and counts["done"] == len(plan.cells):
        return finish(study, plan, runs)
    print(f"{shlex.join(['paribus', 'study', 'status', str(args.study), *where_options(args)])} reports their state")
    if args.repeat:
        print("the same command again compares them with the rows on record, once all are done")
    return OK


def _sort_out(
    args: argparse.Namespace, study: Study, plan: Plan, runs: Path, cells: Sequence[Cell]
) -> tuple[list[Cell], Counter[str]]:
    """Which of the cells to submit, in the order in which they are to run, and how many are in each state."""
    rows = rows_file.read_rows(study.results_path)
    recorded = {row.cell for row in rows if row.state == "done" and not args.repeat}
    known = queue.read_cell_states(plan, runs, recorded)
    missing = [c for c in plans.order_cells(cells) if known[c.name].state in ("waiting", "failed", "cancelled")]
    return missing, Counter(known[cell.name].state for cell in cells)


def _make_job(args: argparse.Namespace, study: Study, plan: Plan) -> JobOptions:
    on_gpus = any(device in ("auto", "cuda") for device in plan.devices.values())
    options = [(name, value) for name in SBATCH if (value := getattr(args, name))]
    for text in args.sbatch:
        key, _, value = text.lstrip("-").partition("=")
        options.append((key, value))
    return JobOptions(
        template=args.template or "one_gpu",
        options=options,
        gpus=args.gpus if args.gpus is not None else int(on_gpus),
        nodes=args.nodes,
        tasks=args.tasks,
        cpus=args.cpus or study.spec.threads,
        at_once=args.workers or 0,
        repeat=args.repeat,
    )


def run_cell(args: argparse.Namespace) -> int:
    from paribus.study.slurm import array_task

    study = load_study(args.study)
    study = open_stage(study) if args.stage else study
    made = plans.require_plan(study)
    found = made.by_name().get(args.cell)
    if found is None:
        raise ConfigError(f"--cell: found {args.cell}; {study.plan_path} has no such cell (any more)")
    return array_task.run_cell(study, made, runs_folder(args, study), found, shlex.split(args.launcher), args.repeat)


def cancel(args: argparse.Namespace) -> int:
    study = load_study(args.study)
    if study.spec.tune is not None and not args.repeat and find_chosen(study) is None:
        study = open_stage(study)
    made = plans.require_plan(study)
    runs = newest_repeat(args, study) if args.repeat else runs_folder(args, study)
    known = queue.read_cell_states(made, runs, ())
    latest = queue.read_tasks(runs)
    alive = ("pending", "requeued", "running")
    open_ = [latest[name] for name, now in known.items() if name in latest and now.state in alive]
    if open_:
        queue.cancel(open_)
    print(f"{len(open_)} cells cancelled; the same study run command submits them again")
    return OK

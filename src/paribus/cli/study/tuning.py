"""The tuning stage in `paribus study plan`, `run` and `status`: composed and frozen, run, chosen from, counted."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paribus.cli.study.common import choose_workers, print_table, runs_folder, where_options
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK, STUDY_FAILED
from paribus.core.formatting import format_clock, format_count, format_list
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study import tuned
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.slurm import queue
from paribus.study.spec import RESULTS, Study
from paribus.study.status import Status, build_status
from paribus.study.tuning.choice import ChosenSettings
from paribus.study.tuning.trials import DEFAULT, split_cell_arm


def plan_stage(args: argparse.Namespace, study: Study) -> ChosenSettings | None:
    """Compose and freeze the tuning stage; what was chosen by it, now or earlier, or None while that is open. Then what
    follows is printed. Needs torch."""
    from paribus.recipe.tuning_plan import build_tuning_plan

    stage, chosen = tuned.open_stage(study), tuned.find_chosen(study)
    rows = tuned.read_stage_rows(study)
    made = build_tuning_plan(study)
    if chosen is not None:
        tuned.check_stage_rows(study, chosen, rows)
        tuned.check_stage_plan(study, made)
        return chosen
    _refuse_repeat(args)
    _check_first(study)
    _freeze(stage, made, rows)
    missing, failed = tuned.find_missing(made, rows)
    if not missing and (args.count_failed or not failed):
        return _choose(study, made, rows)
    if not args.quiet:
        _print_open(args, study, made, failed if not missing else [])
    return None


def _refuse_repeat(args: argparse.Namespace) -> None:
    """Raises ConfigError for --repeat before there is a choice."""
    if args.repeat:
        raise ConfigError(
            "--repeat: repeats the study's cells, whose settings are not chosen yet; run it without first"
        )


def _check_first(study: Study) -> None:
    """The study's arms compose, and none of its cells ran before there was a choice. Raises ConfigError."""
    from paribus.recipe.arms import build_plan

    if done := sum(row.state == "done" for row in rows_file.read_rows(study.results_path)):
        raise ConfigError(
            f"tune: {study.results_path} has {format_count(done, 'row')} of runs with settings that were not tuned; "
            f"move {RESULTS} away to restart the study, or take tune: out"
        )
    plans.check_cells(build_plan(study))


def _freeze(stage: Study, made: Plan, rows: Sequence[Row]) -> None:
    try:
        stage.plan_path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{stage.plan_path.parent} cannot be created: {error.strerror}") from error
    try:
        plans.freeze(stage, made, rows)
    except ConfigError as error:
        raise ConfigError(f"tune: {error}") from error


def _choose(study: Study, made: Plan, rows: Sequence[Row]) -> ChosenSettings:
    chosen, metric = tuned.choose(study, made, rows), tuned.require_tune(study).metric
    for arm, one in chosen.arms.items():
        said = " ".join(one.overrides) or "its default settings"
        print(f"tuned    {arm}: {said} ({one.trial}, {metric} {one.value:.4f})", file=sys.stderr)
    return chosen


def _print_open(args: argparse.Namespace, study: Study, made: Plan, failed: Sequence[str]) -> None:
    """The state of the stage, and what follows."""
    stage, tune = tuned.open_stage(study), tuned.require_tune(study)
    workers = args.workers or choose_workers(stage, made)
    found = _count_by_arm(_read_status(args, stage, made, workers))
    print(f"{study.name}: {study.spec.question}\n")
    settings = format_count(len(made.recipes), "setting")
    seeds = format_count(len(tune.seeds), "seed")
    print(f"tuning: {settings} × {seeds} by {tune.metric}, {format_count(len(made.cells), 'run')}")
    print_table(found, stage)
    if shared := len(made.recipes) * len(tune.seeds) - len(made.cells):
        print(f"{format_count(shared, 'more run')} would be the same as one of these and is not made again")
    if missing := len(made.cells) - found.counts()["done"] - found.counts()["running"]:
        known = "duration unknown, no run to estimate it from"
        if found.seconds_left is not None:
            known = f"about {format_clock(found.seconds_left)} with {workers} at a time"
        print(f"\n{missing} to run: {known}")
    again = shlex.join(["paribus", "study", "run", str(args.study), *where_options(args)])
    if failed:
        print(f"{format_list(failed)} failed: {again} tries again, and counts what fails once more as worst")
    print(f"plan: {stage.plan_path}")
    planned = len(study.spec.arms) * len(study.spec.seeds)
    print(f"{again} runs them, chooses for each arm, and runs the study's {format_count(planned, 'cell')}")


def run_stage(
    args: argparse.Namespace, study: Study, run: Callable[[Study, Plan, Sequence[Cell]], int], choose: Callable[[], int]
) -> int | None:
    """Run what is missing of the tuning stage, and have its choice frozen. None: the study's own cells can run now;
    else the exit code.

    run: runs cells of a plan, and returns the exit code. choose: plans the study, counting failed runs as worst.
    """
    if tuned.find_chosen(study) is not None:
        return None
    _refuse_repeat(args)
    stage = tuned.open_stage(study)
    plan = plans.require_plan(stage)
    runs = runs_folder(args, stage)
    wanted = plan.cells if not args.cluster else _list_open(stage, plan, runs)
    print(f"tuning: {format_count(len(plan.cells), 'run')}, then the study", file=sys.stderr, flush=True)
    if wanted or args.dry_run:
        code = run(stage, plan, wanted)
        if args.cluster and not args.dry_run:
            print("the same command again, once they are done, chooses the settings and submits the study")
        if args.cluster or code not in (OK, STUDY_FAILED):
            return code
    if hopeless := _record_failures(study, stage, plan, runs):
        print(f"paribus: {tuned.explain_none(study, hopeless[0])}", file=sys.stderr)
        return run(stage, plan, plan.cells) if args.cluster else STUDY_FAILED
    _, failed = tuned.find_missing(plan, tuned.read_stage_rows(study))
    if failed:
        print(f"failed while tuning, and counted as worst: {format_list(failed)}", file=sys.stderr, flush=True)
    if (code := choose()) != OK:
        return code
    return None if tuned.find_chosen(study) is not None else STUDY_FAILED


def _list_open(stage: Study, plan: Plan, runs: Path) -> list[Cell]:
    """Cells that Slurm has neither finished nor given up: all that are neither done nor failed."""
    queue.record_missing_rows(stage, plan, runs, stage.results_path)
    recorded = {row.cell for row in rows_file.read_rows(stage.results_path) if row.state == "done"}
    known = queue.read_cell_states(plan, runs, recorded)
    return [cell for cell in plan.cells if known[cell.name].state not in ("done", "failed")]


def _record_failures(study: Study, stage: Study, plan: Plan, runs: Path) -> list[str]:
    """Give cells that ended without a row, say killed for memory, the row of a failed run, so that the choice rests on
    files alone. Returns the arms that nothing can be chosen for; then no row is written, as this machine may be why."""
    rows = rows_file.read_rows(stage.results_path)
    if hopeless := tuned.find_hopeless(study, plan, rows):
        return hopeless
    missing, _ = tuned.find_missing(plan, rows)
    by_name = plan.by_name()
    new = [_make_failed_row(stage, by_name[name], runs) for name in missing]
    if new:
        rows_file.update_rows(stage, new, plan.ids())
    return []


def _make_failed_row(stage: Study, cell: Cell, runs: Path) -> Row:
    why = cells.read_state(runs, cell).why or "ended without a summary"
    return Row(
        study=stage.name,
        arm=cell.arm,
        seed=cell.seed,
        id=cell.id,
        state="failed",
        metrics={},
        curves={},
        cost={},
        steps=0,
        sizes={},
        data_checksum="",
        fingerprint={},
        segments=0,
        mixed=False,
        commit=None,
        dirty=False,
        hardware={},
        why=why,
    )


def read_status(args: argparse.Namespace, study: Study) -> Status:
    """The state of the tuning stage, by arm of the study."""
    stage = tuned.open_stage(study)
    plan, runs = plans.require_plan(stage), runs_folder(args, stage)
    if queue.has_jobs(runs):
        queue.record_missing_rows(stage, plan, runs, stage.results_path)
    return _read_status(args, stage, plan, 0)


def _read_status(args: argparse.Namespace, stage: Study, plan: Plan, workers: int) -> Status:
    rows = rows_file.read_rows(stage.results_path)
    return build_status(plan, rows, runs_folder(args, stage), time.time(), workers)


def _count_by_arm(status: Status) -> Status:
    """The same with each trial's cells under its arm of the study, for a table that is not one row a trial."""
    states = tuple((replace(cell, arm=split_cell_arm(cell.arm)[0]), now) for cell, now in status.cell_states)
    return replace(status, cell_states=states)


def print_status(study: Study, found: Status) -> None:
    """Both stages are printed; the study's own table follows."""
    chosen, stage = tuned.find_chosen(study), tuned.open_stage(study)
    print("tuning:")
    print_table(_count_by_arm(found), stage)
    for cell, now in found.cell_states:
        if now.state in ("failed", "cancelled"):
            print(f"{now.state}: {cell.name}: {now.why}")
    if chosen is None:
        print("\nnothing is chosen yet, so the study's own cells are not planned")
        return
    for arm, one in chosen.arms.items():
        print(f"{arm}: {' '.join(one.overrides) or DEFAULT}" + (f" ({one.trial})" if one.overrides else ""))
    print("\nstudy:")


def list_arms(status: Status) -> list[str]:
    """The arms of the stage that have runs of their own, in the order of the plan."""
    return list(dict.fromkeys(cell.arm for cell, _ in status.cell_states))

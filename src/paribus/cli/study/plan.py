"""`paribus study plan`: compose and check every cell, freeze plan.jsonl, print what is missing. Needs torch."""

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from paribus.cli.study import tuning
from paribus.cli.study.common import choose_workers, describe_looks, print_table, runs_folder, with_configs
from paribus.cli.study.repeat import announce
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_clock, format_list
from paribus.core.sources import hash_package
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.frozen import freeze_spec
from paribus.study.load import load_study
from paribus.study.measures import read_measures
from paribus.study.plan import Plan
from paribus.study.runner.repeat import find_next
from paribus.study.spec import Study
from paribus.study.status import build_status
from paribus.study.tuned import apply_chosen


def run(args: argparse.Namespace) -> int:
    study = with_configs(load_study(args.study), args.config_dir)
    rows = rows_file.read_rows(study.results_path)
    composed = _compose(args, study)
    if composed is None:
        return OK
    study, made = composed
    new = plans.freeze(study, made, rows)
    if new:
        from paribus.study.report.changes import list_changes  # SciPy comes with it

        for text in list_changes(new, freeze_spec(study.spec)):
            print(f"note: {text} {study.plan_path} keeps it, and reports say so", file=sys.stderr)
    warn_of_edits(rows)
    measured = {metric for one in read_measures(study) for metric in one.metrics}
    if (missing := [metric for metric in made.to_measure if metric not in measured]) and not args.quiet:
        print(
            f"note: no evaluator of these recipes declares {format_list(missing)}; paribus study measure "
            f"{args.study} --evaluators NAME measures it on the kept checkpoints once the runs are done",
            file=sys.stderr,
        )
    if args.quiet:
        return OK
    workers = args.workers or choose_workers(study, made)
    runs = runs_folder(args, study)
    if args.repeat:
        runs = find_next(runs)
    found = build_status(made, rows, runs, time.time(), workers, args.repeat)
    print(f"{study.name}: {study.spec.question}\n")
    if args.repeat:
        print(announce(runs))
    print_table(found, study)
    missing = len(made.cells) - found.counts()["done"] - found.counts()["running"]
    if missing:
        known = "duration unknown, no run to estimate it from"
        if found.seconds_left is not None:
            known = f"about {format_clock(found.seconds_left)} with {workers} at a time"
        print(f"\n{missing} to run: {known}")
    if looks := describe_looks(study):
        print(looks)
    print(f"plan: {study.plan_path}")
    if args.power:
        from paribus.cli.study.power import power_lines

        print("\n" + "\n".join(power_lines(study, rows)))
    return OK


def _compose(args: argparse.Namespace, study: Study) -> tuple[Study, Plan] | None:
    """The study, with what was chosen for it if it tunes, and its plan; None while its tuning is open."""
    from paribus.recipe.arms import build_plan  # torch comes with it, and only once study.yaml is known to be valid

    try:
        if study.spec.tune is None:
            return study, build_plan(study)
        chosen = tuning.plan_stage(args, study)
        if chosen is None:
            return None
        study = apply_chosen(study, chosen)
        return study, replace(build_plan(study), tuned=chosen)
    except ConfigError as error:
        raise ConfigError(f"{study.folder}: {error}") from error


def warn_of_edits(rows: Iterable[rows_file.Row]) -> None:
    """A line for each package of the user's that was edited since rows were recorded. They stay: nobody else knows
    whether the edit matters to them."""
    rows = [row for row in rows if row.state == "done"]
    current = {name: hash_package(name) for row in rows for name in rows_file.package_digests(row)}
    for name, cells in rows_file.outdated_rows(rows, current).items():
        print(
            f"warning: your package {name} was edited since {len(cells)} of the rows on record were made "
            f"({format_list(cells)}); new rows would be made by other code than these, and a report says so",
            file=sys.stderr,
        )

"""`paribus study status`: what is done, running, failed and waiting. Needs no torch."""

import argparse
import json
import sys
import time

from paribus.cli.study import tuning
from paribus.cli.study.common import describe_looks, newest_repeat, print_table, runs_folder
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_clock
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.load import load_study
from paribus.study.runner.repeat import results_path
from paribus.study.slurm import queue
from paribus.study.spec import Study
from paribus.study.status import Status, build_status, to_json


def run(args: argparse.Namespace) -> int:
    study = load_study(args.study)
    tune = tuning.read_status(args, study) if study.spec.tune is not None and not args.repeat else None
    if tune is not None and not study.plan_path.is_file():
        return _print_tuning(args, study, tune)
    made = plans.require_plan(study)
    runs = newest_repeat(args, study) if args.repeat else runs_folder(args, study)
    if queue.has_jobs(runs):
        queue.record_missing_rows(study, made, runs, results_path(study, runs, args.repeat))
    found = build_status(made, rows_file.read_rows(study.results_path), runs, time.time(), repeat=args.repeat)
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    if args.json:
        stage = {} if tune is None else {"tuning": to_json(tune, tuning.list_arms(tune))}
        print(json.dumps(to_json(found, study.spec.arms) | stage, indent=2))
        return OK
    if tune is not None:
        tuning.print_status(study, tune)
    if args.repeat:
        print(f"{runs.name}: in {runs}")
    print_table(found, study)
    if looks := describe_looks(study):
        print(looks)
    running = found.counts()["running"]
    if running and found.seconds_left is not None:
        print(f"\nabout {format_clock(found.seconds_left)} left with {running} at a time")
    for cell, now in found.cell_states:
        if now.state in ("failed", "cancelled"):
            print(f"{now.state}: {cell.name}: {now.why}")
    return OK


def _print_tuning(args: argparse.Namespace, study: Study, tune: Status) -> int:
    """The state of a study whose settings are not chosen yet: its own cells are not planned."""
    if args.json:
        none = to_json(Status(study.name, (), None), study.spec.arms)
        print(json.dumps(none | {"tuning": to_json(tune, tuning.list_arms(tune))}, indent=2))
    else:
        tuning.print_status(study, tune)
    return OK

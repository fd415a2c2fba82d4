"""`paribus study status`: what is done, running, failed and waiting. Needs no torch."""

import argparse
import json
import sys
import time

from paribus.cli.study.common import describe_looks, newest_repeat, print_table, runs_folder
from paribus.core.exit_codes import OK
from paribus.core.formatting import format_clock
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.load import load_study
from paribus.study.runner.repeat import results_path
from paribus.study.slurm import queue
from paribus.study.status import build_status, to_json


def run(args: argparse.Namespace) -> int:
    study = load_study(args.study)
    made = plans.require_plan(study)
    runs = newest_repeat(args, study) if args.repeat else runs_folder(args, study)
    if queue.has_jobs(runs):
        queue.record_missing_rows(study, made, runs, results_path(study, runs, args.repeat))
    found = build_status(made, rows_file.read_rows(study.results_path), runs, time.time(), repeat=args.repeat)
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    if args.json:
        print(json.dumps(to_json(found, study.spec.arms), indent=2))
        return OK
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

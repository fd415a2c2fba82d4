"""`paribus study report FOLDER`: rows to README.md and its figure, report.html, report.csv and report.json.

No torch, no composing. It is a look at the results, and is put on record as one (study/looks.py).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paribus.cli.gate import parse_conditions, report_gate, run_gate
from paribus.cli.study.common import runs_folder
from paribus.study import plan as plans
from paribus.study.analysis.analysis import Analysis, record_interim
from paribus.study.analysis.interim import list_contradictions
from paribus.study.frozen import freeze_spec
from paribus.study.load import load_study
from paribus.study.looks import add_look, looks_path, read_looks
from paribus.study.pictures import keep_of_runs
from paribus.study.report.build import build_report
from paribus.study.report.changes import list_changes
from paribus.study.report.files import check_writable
from paribus.study.report.model import Report
from paribus.study.report.publish import publish
from paribus.study.results import analyse_rows, gather_rows
from paribus.study.rows import Row
from paribus.study.spec import Study


def run(args: argparse.Namespace) -> int:
    study, conditions = load_study(args.study), parse_conditions(args)
    runs = runs_folder(args, study)
    rows = gather_rows(study, runs)
    if (plan := plans.read_plan(study.plan_path)) is not None:
        keep_of_runs(study, rows, {cell.name: runs / cell.folder for cell in plan.cells})
    analysis = analyse_rows(study, rows)
    report = build_report(analysis, find_changes(study, rows, analysis))
    found = run_gate(args, analysis, conditions)
    check_writable(looks_path(study))
    path = publish(study.folder, analysis, report)
    add_look(study, rows, record_interim(analysis))
    _print(report, path)
    if args.wandb:
        from paribus.cli.study.wandb import send

        print(send(study.name, analysis, report, path, runs))
    return report_gate(args, analysis, report, found)


def find_changes(study: Study, rows: Sequence[Row], analysis: Analysis) -> tuple[str, ...]:
    """What was changed after the first row of what should have been frozen, and planned looks that came out otherwise,
    in words."""
    now = freeze_spec(study.spec)
    changes = list_changes(plans.list_earlier(study, plans.read_plan(study.plan_path), rows), now)
    if analysis.interims is None:
        return changes
    return (*changes, *list_contradictions(read_looks(study), analysis.interims, analysis.spec.pairs, now))


def _print(report: Report, path: Path) -> None:
    print(f"{report.title}\n")
    for verdict in report.verdicts:
        print(f"* {verdict.said}\n  {verdict.numbers}" + (f"\n  {verdict.why}" if verdict.why else ""))
    for text in report.remarks:
        print(text)
    for text in report.cautions:
        print(f"! {text}")
    print(f"\nreport: {path}")

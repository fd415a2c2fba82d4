"""`paribus study report FOLDER`: rows to README.md, report.html, report.csv and report.json. No torch, no composing."""

import argparse
from pathlib import Path

from paribus.cli.gate import parse_conditions, report_gate, run_gate
from paribus.cli.study.common import runs_folder
from paribus.core.errors import ConfigError
from paribus.study import plan as plans
from paribus.study import rows as rows_file
from paribus.study.analysis.analysis import analyse
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.load import load_study
from paribus.study.report.build import build_report
from paribus.study.report.model import Report
from paribus.study.report.publish import publish
from paribus.study.rows import Row
from paribus.study.spec import Study


def run(args: argparse.Namespace) -> int:
    study, conditions = load_study(args.study), parse_conditions(args)
    runs = runs_folder(args, study)
    analysis = analyse(build_analysis_spec(study), gather_rows(study, runs))
    report = build_report(analysis)
    found = run_gate(args, analysis, conditions)
    path = publish(study.folder, analysis, report)
    _print(report, path)
    if args.wandb:
        from paribus.cli.study.wandb import send

        print(send(study.name, analysis, report, path, runs))
    return report_gate(args, analysis, report, found)


def gather_rows(study: Study, runs: Path) -> list[Row]:
    """The recorded rows, and those of planned runs that have ended but are not recorded yet.

    Raises ConfigError if there are none, or if they belong to another plan.
    """
    rows, plan = rows_file.read_rows(study.results_path), plans.read_plan(study.plan_path)
    if plan is not None:
        plans.check_rows(study, plan, plan, rows)
        recorded = {row.cell for row in rows}
        for cell in plan.cells:
            folder = runs / cell.folder
            if cell.name in recorded or not folder.is_dir():
                continue
            row = rows_file.read_row(folder, study.name, cell.arm)
            if row is not None and row.id == cell.id:
                rows.append(row)
    elsewhere = sorted({row.arm for row in rows} - study.spec.arms.keys())
    if elsewhere:
        raise ConfigError(
            f"{study.results_path}: has rows of {elsewhere[0]}, which study.yaml does not name; "
            "put the arm back, or move the rows away"
        )
    if not rows:
        raise ConfigError(f"{study.folder}: no run is recorded yet; start with paribus study run {study.folder}")
    return rows


def _print(report: Report, path: Path) -> None:
    print(f"{report.title}\n")
    for verdict in report.verdicts:
        print(f"* {verdict.said}\n  {verdict.numbers}" + (f"\n  {verdict.why}" if verdict.why else ""))
    for text in report.remarks:
        print(text)
    for text in report.cautions:
        print(f"! {text}")
    print(f"\nreport: {path}")

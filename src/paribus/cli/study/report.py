"""`paribus study report FOLDER`: rows to README.md, report.html, report.csv and report.json. No torch, no composing."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paribus.cli.gate import GATE_HELP, add_gate_options, parse_conditions, report_gate, run_gate
from paribus.cli.options import Parser, parsed
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.study import plan as plans
from paribus.study import rows as record
from paribus.study.analysis.analysis import analyse
from paribus.study.analysis.question import build_analysis_spec
from paribus.study.report.build import build_report
from paribus.study.report.model import Report
from paribus.study.report.publish import publish
from paribus.study.rows import Row
from paribus.study.spec import Study, load_study


def run(arguments: Sequence[str]) -> int:
    asked = parsed(_parser(), arguments)
    if asked is None:
        return OK
    study, conditions = load_study(asked.study), parse_conditions(asked)
    runs = asked.runs.expanduser() if asked.runs else Path("runs") / study.name
    analysis = analyse(build_analysis_spec(study), rows_of(study, runs))
    report = build_report(analysis)
    found = run_gate(asked, analysis, conditions)
    path = publish(study.folder, analysis, report)
    _print(report, path)
    if asked.wandb:
        from paribus.cli.study.wandb import send

        print(send(study.name, analysis, report, path, runs))
    return report_gate(asked, analysis, report, found)


def _parser() -> Parser:
    parser = Parser(
        prog="paribus study report",
        description="Write the tables into the study's README.md and make report.html, report.csv and report.json.",
        epilog=GATE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, metavar="FOLDER", help="the study's folder, e.g. experiments/quickstart")
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="where run folders lie that are not on record (default: runs/STUDY)"
    )
    parser.add_argument(
        "--wandb", action="store_true", help="send the same tables and figures to W&B as one run of the group"
    )
    add_gate_options(parser, "the smallest effect for maybe-worse and not-equivalent, else 0")
    return parser


def rows_of(study: Study, runs: Path) -> list[Row]:
    """The rows on record, and those of planned runs that have ended but are not on record yet.

    Raises ConfigError if there are none, or they are of another plan.
    """
    rows, plan = record.read_rows(study.results_path), plans.read_plan(study.plan_path)
    if plan is not None:
        plans.check_rows(study, plan, plan, rows)
        recorded = {row.cell for row in rows}
        for cell in plan.cells:
            folder = runs / cell.folder
            if cell.name in recorded or not folder.is_dir():
                continue
            row = record.read_row(folder, study.name, cell.arm)
            if row is not None and row.id == cell.id:
                rows.append(row)
    elsewhere = sorted({row.arm for row in rows} - study.spec.arms.keys())
    if elsewhere:
        raise ConfigError(
            f"{study.results_path}: has rows of {elsewhere[0]}, which study.yaml does not name; put the arm back, or "
            "move the rows away"
        )
    if not rows:
        raise ConfigError(f"{study.folder}: no run is on record yet; paribus study run {study.folder} makes them")
    return rows


def _print(report: Report, path: Path) -> None:
    print(f"{report.title}\n")
    for verdict in report.verdicts:
        print(f"* {verdict.said}\n  {verdict.numbers}")
    for text in report.cautions:
        print(f"! {text}")
    print(f"\nreport: {path}")

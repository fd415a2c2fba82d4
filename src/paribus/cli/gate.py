"""What `paribus study report` and `paribus compare` share: the gate's options, and writing down what it found."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.gate import CONDITIONS, GateCheck, format_junit, parse_margin, run_checks
from paribus.study.report.model import Report
from paribus.study.report.publish import build_json, write_file
from paribus.study.stats import to_plain

GATE_HELP = f"""\
The gate: exit 1 if a condition holds, else 0. Conditions ({", ".join(CONDITIONS)}), m being the margin:
  worse           an arm is shown to be worse by more than m; lets an uncertain loss pass
  maybe-worse     an arm is not shown to be no worse than m (non-inferiority); stops an uncertain loss
  not-better      an arm is not shown to be better by more than m
  not-equivalent  an arm is not shown to differ by less than m
  undecided       the report's verdict is undecided
  incomplete      a planned run is missing or failed
A comparison that cannot be tested fails each of them. Margins of accuracies are in points: 0.5, 0.5pt and 0.5% are the
same; other metrics take a bare number in their own unit."""


def add_gate_options(parser: argparse.ArgumentParser, default: str) -> None:
    gate = parser.add_argument_group("gate")
    gate.add_argument(
        "--fail-if", action="append", default=[], metavar="CONDITION", help="exit 1 if it holds; a,b or repeated"
    )
    gate.add_argument("--margin", metavar="M", help=f"of the gate, e.g. 0.5pt (default: {default})")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write what the gate found as JUnit XML")
    gate.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, and what the gate found, as JSON")


def parse_conditions(args: argparse.Namespace) -> list[str]:
    """Raises ConfigError where an option makes no sense without a condition."""
    conditions = [word.strip() for words in args.fail_if for word in words.split(",") if word.strip()]
    unknown = next((c for c in conditions if c not in CONDITIONS), None)
    if args.fail_if and not conditions:
        raise ConfigError(f"--fail-if: found nothing; there are {', '.join(CONDITIONS)}")
    if args.junit and not conditions and unknown is None:
        raise ConfigError(
            f"--junit: there is nothing to write without --fail-if; conditions are {', '.join(CONDITIONS)}"
        )
    return conditions


def parse_margin_option(args: argparse.Namespace, metric: str) -> float | None:
    return None if args.margin is None else parse_margin(args.margin, metric)


def run_gate(args: argparse.Namespace, analysis: Analysis, conditions: Sequence[str]) -> tuple[GateCheck, ...]:
    return run_checks(analysis, conditions, parse_margin_option(args, analysis.spec.metric))


def report_gate(args: argparse.Namespace, analysis: Analysis, report: Report, checks_done: Sequence[GateCheck]) -> int:
    """Write the files that were asked for, print what the gate found, and give its exit code."""
    if args.junit:
        write_file(args.junit, format_junit(report.name, checks_done))
    if args.json:
        content = {**build_json(analysis, report), "gate": to_plain(list(checks_done)) if checks_done else None}
        write_file(args.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    if not checks_done:
        return OK
    print("\ngate: FAIL where the condition holds")
    for check in checks_done:
        print(f"  {'FAIL' if check.failed else 'pass'}  {check.subject}, {check.what}: {check.why}")
    return FAILED if any(check.failed for check in checks_done) else OK

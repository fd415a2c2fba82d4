"""What `paribus study report` and `paribus compare` share: the gate's options, and writing down what it found."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.gate import CONDITIONS, Check, checks, junit_of, parse_margin
from paribus.study.report.model import Report
from paribus.study.report.publish import json_of, written
from paribus.study.stats import plain

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


def add_gate(parser: argparse.ArgumentParser, default: str) -> None:
    gate = parser.add_argument_group("gate")
    gate.add_argument(
        "--fail-if", action="append", default=[], metavar="CONDITION", help="exit 1 if it holds; a,b or repeated"
    )
    gate.add_argument("--margin", metavar="M", help=f"of the gate, e.g. 0.5pt (default: {default})")
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write what the gate found as JUnit XML")
    gate.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, and what the gate found, as JSON")


def conditions_of(asked: argparse.Namespace) -> list[str]:
    """Raises ConfigError where an option makes no sense without a condition."""
    conditions = [word.strip() for words in asked.fail_if for word in words.split(",") if word.strip()]
    unknown = next((c for c in conditions if c not in CONDITIONS), None)
    if asked.fail_if and not conditions:
        raise ConfigError(f"--fail-if: found nothing; there are {', '.join(CONDITIONS)}")
    if asked.junit and not conditions and unknown is None:
        raise ConfigError(
            f"--junit: there is nothing to write without --fail-if; conditions are {', '.join(CONDITIONS)}"
        )
    return conditions


def margin_of(asked: argparse.Namespace, metric: str) -> float | None:
    return None if asked.margin is None else parse_margin(asked.margin, metric)


def found_by(asked: argparse.Namespace, analysis: Analysis, conditions: Sequence[str]) -> tuple[Check, ...]:
    return checks(analysis, conditions, margin_of(asked, analysis.asked.metric))


def told(asked: argparse.Namespace, analysis: Analysis, report: Report, found: Sequence[Check]) -> int:
    """Write the files that were asked for, print what the gate found, and give its exit code."""
    if asked.junit:
        written(asked.junit, junit_of(report.name, found))
    if asked.json:
        content = {**json_of(analysis, report), "gate": plain(list(found)) if found else None}
        written(asked.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    if not found:
        return OK
    print("\ngate: FAIL where the condition holds")
    for check in found:
        print(f"  {'FAIL' if check.failed else 'pass'}  {check.subject}, {check.what}: {check.why}")
    return FAILED if any(check.failed for check in found) else OK

"""What `study report`, `compare` and `judge` share: the conditions of the gate, checked and reported.

`paribus judge` needs no analysis of runs, so what does is imported where it is used.
"""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.study.report.conditions import CONDITIONS, GateCheck, format_junit
from paribus.study.report.files import write_file
from paribus.study.report.model import Report
from paribus.study.stats import to_plain
from paribus.study.units import read_margin

if TYPE_CHECKING:
    from paribus.study.analysis.analysis import Analysis


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
    return None if args.margin is None else read_margin(args.margin, metric, "--margin")


def run_gate(args: argparse.Namespace, analysis: "Analysis", conditions: Sequence[str]) -> tuple[GateCheck, ...]:
    from paribus.study.report.gate import run_checks

    return run_checks(analysis, conditions, parse_margin_option(args, analysis.spec.metric))


def report_gate(args: argparse.Namespace, analysis: "Analysis", report: Report, found: Sequence[GateCheck]) -> int:
    """Write the requested files, print what the gate found, and return its exit code."""
    if args.junit:
        write_file(args.junit, format_junit(report.name, found))
    if args.json:
        from paribus.study.report.publish import build_json

        content = {**build_json(analysis, report), "gate": to_plain(list(found)) if found else None}
        write_file(args.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    if found:
        print(f"\n{format_gate(found)}")
    return choose_exit_code(found)


def format_gate(found: Sequence[GateCheck]) -> str:
    lines = [f"  {'FAIL' if check.failed else 'pass'}  {check.subject}, {check.what}: {check.why}" for check in found]
    return "\n".join(["gate: FAIL where the condition holds", *lines])


def choose_exit_code(found: Sequence[GateCheck]) -> int:
    return FAILED if any(check.failed for check in found) else OK

"""The options of the gate, which `paribus study report` and `paribus compare` share."""

import argparse

from paribus.cli.options import Parser, completes, exit_codes, path
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK

# the conditions of paribus.study.report.conditions, in words; m is the margin
CONDITIONS = {
    "worse": "an arm is shown to be worse by more than m; lets an uncertain loss pass",
    "maybe-worse": "an arm is not shown to be no worse than m (non-inferiority); stops an uncertain loss",
    "not-better": "an arm is not shown to be better by more than m",
    "not-equivalent": "an arm is not shown to differ by less than m",
    "undecided": "the report's verdict is undecided",
    "incomplete": "a planned run is missing or failed",
}
_WIDTH = max(map(len, CONDITIONS))
_HELP = f"""\
The gate: exit code {FAILED} if a condition holds, else {OK}. Conditions, m being the margin:

{chr(10).join(f"  {name:<{_WIDTH}}  {meaning}" for name, meaning in CONDITIONS.items())}

A comparison that cannot be tested fails each of them. Margins of accuracies are in points: 0.5, 0.5pt and 0.5% are the
same; other metrics take a bare number in their own unit.
"""


def add_gate_options(parser: Parser, default: str) -> None:
    """default: the margin used without --margin, in words. Sets the parser's epilog."""
    parser.epilog = f"{_HELP}\n" + exit_codes(
        {OK: "done, and no condition of --fail-if holds", FAILED: "a condition holds", BAD_CONFIG: "the input is wrong"}
    )
    gate = parser.add_argument_group("gate")
    condition = gate.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with 1 if it holds; several: a,b or the option repeated",
    )
    completes(condition, tuple(CONDITIONS))
    gate.add_argument("--margin", metavar="M", help=f"of the gate, e.g. 0.5pt (default: {default})")
    _add_file(gate, "--junit", "write what the gate found as JUnit XML")
    _add_file(gate, "--json", "write all numbers, and what the gate found, as JSON")


def _add_file(group: argparse._ArgumentGroup, flag: str, text: str) -> None:
    completes(group.add_argument(flag, type=path, metavar="FILE", help=text), "file")

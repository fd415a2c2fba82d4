"""The arguments of `paribus judge`."""

from paribus.cli.arguments.gate import add_gate_options
from paribus.cli.options import Parser, completes, path


def add_judge(parser: Parser) -> None:
    parser.description = (
        "A verdict on numbers that are there already, from any program: a row for each run (arm, seed, value), a row "
        "for each arm (n, mean, sd), or, with --examples, who is right on which example. CSV (comma, semicolon, tab), "
        "JSON lines or a table exported from W&B; - is standard input. Columns that are not named are guessed where "
        "their names mean one thing only, and what was guessed is said."
    )
    add_gate_options(parser, "0, and then nothing can be called equivalent")
    files = parser.add_argument("files", nargs="+", type=path, metavar="FILE", help="tables; - is standard input")
    completes(files, "file")
    columns = parser.add_argument_group("columns")
    columns.add_argument("--arm", metavar="COL", help="what is compared: method, model, setting")
    columns.add_argument("--seed", metavar="COL", help="runs of two arms that share one are a pair")
    columns.add_argument(
        "--value",
        action="append",
        default=[],
        metavar="COL",
        help="the result; with --examples 1 (right) or 0 (wrong), once for each model's column",
    )
    columns.add_argument("--n", metavar="COL", help="of summaries: the number of runs")
    columns.add_argument("--mean", metavar="COL", help="of summaries: their mean")
    columns.add_argument("--sd", metavar="COL", help="of summaries: their standard deviation, divisor n - 1")
    columns.add_argument("--example", metavar="COL", help="with --examples: what names an example")
    columns.add_argument("--cluster", metavar="COL", help="with --examples: what groups examples that belong together")
    what = parser.add_argument_group("what is asked")
    what.add_argument("--against", metavar="ARM", help="what the others are compared with")
    direction = what.add_mutually_exclusive_group()
    direction.add_argument("--higher", action="store_true", help="higher is better")
    direction.add_argument("--lower", action="store_true", help="lower is better")
    what.add_argument("--metric", metavar="NAME", help="what the value is called, e.g. accuracy (default: its column)")
    what.add_argument("--examples", action="store_true", help="rows are examples of a test set, not runs")
    what.add_argument(
        "--failed", action="store_true", help="a run without a finite value has failed: list it instead of refusing"
    )
    output = parser.add_argument_group("output")
    completes(output.add_argument("--out", type=path, metavar="FILE", help="default: standard output"), "file")
    completes(output.add_argument("--html", type=path, metavar="FILE", help="also write a page"), "file")

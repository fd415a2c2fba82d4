"""`paribus judge FILE`: a verdict on a table of anybody's numbers. No torch, no scipy.stats, no matplotlib."""

import argparse
import json
import shlex
import shutil
import sys

from paribus.cli.gate import choose_exit_code, format_gate, parse_conditions
from paribus.core.errors import ConfigError
from paribus.study.judge.files import judge_files
from paribus.study.judge.judged import Judged, JudgeOptions
from paribus.study.judge.plain import build_json
from paribus.study.judge.plot import WIDTH
from paribus.study.judge.report import build_judge_report
from paribus.study.judge.table import STDIN
from paribus.study.judge.text import format_text
from paribus.study.report.conditions import GateCheck, check_conditions, format_junit
from paribus.study.report.files import write_file
from paribus.study.report.model import Report

_COLUMNS = ("arm", "seed", "n", "mean", "sd", "example", "cluster")


def run(args: argparse.Namespace) -> int:
    conditions = parse_conditions(args)
    _check_outputs(args)
    judged = judge_files(args.files, _read_options(args), args.examples)
    command = shlex.join(["paribus", *args.typed])
    report = build_judge_report(judged, (command,), robust=args.html is not None)
    margin = judged.rule.margin if args.margin is not None else None
    found = check_conditions(judged.gate(), conditions, margin)
    code = choose_exit_code(found)
    if args.html:
        _write_page(args, judged, report)
    if args.junit:
        write_file(args.junit, format_junit(report.name, found))
    if args.json:
        text = json.dumps(build_json(judged, report, found, code), indent=1, allow_nan=False) + "\n"
        if args.json == STDIN:  # of an output, `-` is standard output
            print(text, end="")
        else:
            write_file(args.json, text)
    if args.out:
        write_file(args.out, f"{_format(judged, report, found, WIDTH, 'utf-8')}\n")
    elif args.json != STDIN:
        width = shutil.get_terminal_size((WIDTH, 24)).columns
        print(_format(judged, report, found, width, sys.stdout.encoding or "ascii"))
    return code


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse to write what is judged, and to send a page to a file called -."""
    if args.html is not None and args.html == STDIN:
        raise ConfigError("--html: found -; should be a file, as standard output has the text")
    inputs = {file.resolve() for file in args.files if file != STDIN}
    for option in ("out", "html", "json", "junit"):
        path = getattr(args, option)
        if path is not None and path != STDIN and path.resolve() in inputs:
            raise ConfigError(f"--{option}: found {path}, which is what is judged; name another file")


def _read_options(args: argparse.Namespace) -> JudgeOptions:
    for role in ("example", "cluster"):
        if getattr(args, role) and not args.examples:
            raise ConfigError(f"--{role}: is for --examples, which judges models on the examples of a test set")
    for role in ("seed", "n", "mean", "sd"):
        if getattr(args, role) and args.examples:
            raise ConfigError(f"--{role}: is for runs, and --examples for examples of a test set; leave one out")
    return JudgeOptions(
        columns={role: getattr(args, role) for role in _COLUMNS},
        values=tuple(args.value),
        against=args.against,
        margin=args.margin,
        higher=True if args.higher else False if args.lower else None,
        metric=args.metric,
        failed=args.failed,
    )


def _format(judged: Judged, report: Report, found: tuple[GateCheck, ...], width: int, encoding: str) -> str:
    plain = not encoding.lower().replace("-", "").startswith("utf")
    text = format_text(judged, report, width=width, ascii_only=plain)
    return f"{text}\n\n{format_gate(found)}" if found else text


def _write_page(args: argparse.Namespace, judged: Judged, report: Report) -> None:
    from paribus.study.judge.svg import draw_svg
    from paribus.study.report.html import JUDGE_TEMPLATE, render_html

    write_file(args.html, render_html(report, {"forest": [("", draw_svg(judged))]}, JUDGE_TEMPLATE))

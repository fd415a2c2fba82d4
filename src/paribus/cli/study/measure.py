"""`paribus study measure`: evaluators on the kept checkpoints of finished cells, into measures.jsonl. Needs torch."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from paribus.cli.study.common import runs_folder, with_configs
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import FAILED, OK
from paribus.core.formatting import format_count, format_list
from paribus.study import plan as plans
from paribus.study.analysis.details import parse_detail
from paribus.study.load import load_study
from paribus.study.measures import Measure, add_measures, measures_path, read_measures
from paribus.study.pictures import keep_of_measure
from paribus.study.results import find_rows
from paribus.study.runner.measurable import Skipped, find_candidates

_SHARED = ("--workers", "--cell")  # what each of several processes is given anew


def run(args: argparse.Namespace) -> int:
    study = with_configs(load_study(args.study), args.config_dir)
    plan, runs = plans.require_plan(study), runs_folder(args, study)
    if unknown := sorted(set(args.cell) - plan.by_name().keys()):
        raise ConfigError(f"--cell: found {unknown[0]}; {study.plan_path} has no such cell")
    found, skipped = find_candidates(plan, find_rows(study, runs), runs)
    if args.cell:
        found = [one for one in found if one.row.cell in args.cell]
        skipped = [one for one in skipped if one.cell in args.cell]
    from paribus.runs import measure  # torch comes with it, and only once the study is known to be valid

    request = measure.parse_request(_parse_names(args.evaluators), args.overrides, study.config_folder)
    known = read_measures(study)
    missing = {one.row.cell: names for one in found if (names := measure.list_missing(one, request, known, plan))}
    if args.workers > 1 and len(missing) > 1:
        return _share(args, list(missing))
    for one in (one for one in found if one.row.cell in missing):
        made = measure.measure_cell(one, missing[one.row.cell], request, read_measures(study))
        if isinstance(made, Skipped):
            skipped.append(made)
            continue
        made = [keep_of_measure(study, measured, one.row.steps) for measured in made]
        add_measures(study, made)
        _print_measured(one.row.cell, made)
    if not args.quiet:
        _print_skipped(skipped)
        cells = len(args.cell) or len(plan.cells)
        print(f"{cells - len(skipped)} of {format_count(cells, 'cell')} measured: {measures_path(study)}")
    nothing = not found and bool(skipped)  # no checkpoint at all: nothing of what was asked for is there
    return FAILED if nothing or any(one.is_wrong for one in skipped) else OK


def _parse_names(text: str) -> list[str]:
    """a,b or [a,b]."""
    names = [name.strip() for name in text.strip("[]").split(",") if name.strip()]
    if not names:
        raise ConfigError("--evaluators: found none; should be names, e.g. --evaluators calibration,attack")
    return names


def _share(args: argparse.Namespace, cells: Sequence[str]) -> int:
    """Each of several processes measures a share of the cells; then this command once more, to say what there is."""
    command = [sys.executable, "-P", "-m", "paribus.cli"]
    again = [*command, *_leave_out(_SHARED, args.typed), "--quiet"]
    shares = [cells[i :: args.workers] for i in range(min(args.workers, len(cells)))]
    children = [subprocess.Popen([*again, *(f"--cell={cell}" for cell in share)]) for share in shares]
    codes = [code if code >= 0 else FAILED for code in [child.wait() for child in children]]
    return max(codes) or subprocess.call([*command, *_leave_out(("--workers",), args.typed)])


def _leave_out(options: Sequence[str], words: Sequence[str]) -> list[str]:
    """Words without these options and their values."""
    kept: list[str] = []
    before = ""
    for word in words:
        if before not in options and word.partition("=")[0] not in options:
            kept.append(word)
        before = word
    return kept


def _print_measured(cell: str, made: Sequence[Measure]) -> None:
    print(f"{cell}: {', '.join(f'{one.evaluator} {one.seconds:.1f} s' for one in made)}", flush=True)
    for one in made:
        for name, node in one.details.items():
            try:
                parse_detail(node, f"{one.evaluator}: {name}")
            except ConfigError as error:
                print(f"warning: recorded, but no report draws it: {error}", file=sys.stderr)


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    """Cells by reason."""
    by_reason: dict[str, list[str]] = {}
    for one in skipped:
        by_reason.setdefault(one.why, []).append(one.cell)
    for why, cells in by_reason.items():
        print(f"skipped: {format_list(cells, 8)}: {why}", file=sys.stderr)

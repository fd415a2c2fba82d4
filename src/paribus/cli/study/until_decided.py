"""`paribus study run --until-decided`: one planned look after the other, until nothing is open or the last is made."""

import argparse
import sys
from collections.abc import Callable, Sequence

from paribus.core.exit_codes import OK, STUDY_FAILED
from paribus.study.plan import Cell, Plan
from paribus.study.report.build import build_report
from paribus.study.results import analyse_rows
from paribus.study.rows import read_rows
from paribus.study.runner.looks import find_next_look, make_look
from paribus.study.spec import Study


def run_until_decided(
    args: argparse.Namespace, study: Study, plan: Plan, run_cells: Callable[[Sequence[Cell]], int]
) -> int:
    """Returns the exit code. run_cells: runs these cells and returns its own.

    A failed cell takes its pair along, as everywhere, and is listed; only where a look would have fewer than two pairs
    of a comparison does the study wait for it to be mended. On a cluster the cells of one look are submitted.
    """
    worst, shown = OK, False
    while not (look := find_next_look(study, plan)).over:
        print(look, file=sys.stderr if args.dry_run else sys.stdout, flush=True)
        if look.cells:
            code = run_cells(look.cells)
            if code not in (OK, STUDY_FAILED) or (args.cluster and not _have_ended(study, look.cells)):
                return code
            worst = max(worst, code)
        if why := make_look(study, look):
            print(f"paribus: {why}", file=sys.stderr)
            return STUDY_FAILED
        print("\n".join(_list_verdicts(study)), flush=True)
        shown = True
    if not shown:
        print("\n".join(_list_verdicts(study)))
    return worst


def _have_ended(study: Study, cells: Sequence[Cell]) -> bool:
    """Whether all of them have rows: cells of a cluster whose rows were missing get them when more are submitted."""
    ended = {row.cell for row in read_rows(study.results_path)}
    return all(cell.name in ended for cell in cells)


def _list_verdicts(study: Study) -> list[str]:
    """By the rows on record, in words, and how far the looks have come."""
    report = build_report(analyse_rows(study, read_rows(study.results_path)))
    return [*(f"* {v.said} {v.why}\n  {v.numbers}" for v in report.verdicts), *report.remarks]

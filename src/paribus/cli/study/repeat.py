"""What `paribus study run --repeat` says in the end: which cells came out equal to their rows on record."""

from pathlib import Path

from paribus.core.exit_codes import MISMATCH, OK
from paribus.core.formatting import format_count, format_list
from paribus.study.plan import Plan
from paribus.study.runner import repeat
from paribus.study.runner.repeat import CellComparison
from paribus.study.spec import Study

_MOST = 8  # cells that are named; comparison.json has all


def announce(folder: Path) -> str:
    """Which folder a repeat trains in."""
    return f"{folder.name}: {'goes on' if folder.is_dir() else 'begins'} in {folder}"


def finish(study: Study, plan: Plan, folder: Path) -> int:
    """Compare what was trained, print it, and end the repeat if every cell is done. Returns the exit code."""
    found = repeat.compare_repeat(study, plan, folder)
    if len(found) == len(plan.cells):
        repeat.end_repeat(folder, found)
    print("\n".join(format_comparison(folder, found)))
    return MISMATCH if any(one.result in ("different", "other sources") for one in found) else OK


def format_comparison(folder: Path, found: list[CellComparison]) -> list[str]:
    """A line with the counts, and one for each cell that is not equal."""
    equal, different, edited, alone = (
        [one for one in found if one.result == result]
        for result in ("equal", "different", "other sources", "nothing on record")
    )
    lines = [
        f"{folder.name}: of {format_count(len(found), 'cell')} trained in it, {len(equal)} equal their rows on record "
        f"bit for bit in metrics and curves (costs are not compared), {len(different)} differ, "
        f"{len(alone)} have nothing on record to compare with"
    ]
    lines += [f"differs: {_format_different(one)}" for one in different[:_MOST]]
    if len(different) > _MOST:
        lines.append(f"and {len(different) - _MOST} more: {folder / repeat.COMPARISON}")
    if edited:
        lines.append(
            f"not shown: {format_list([one.cell for one in edited], _MOST)} have equal numbers, but were made by "
            "another source of your packages than the rows on record, and so repeat nothing"
        )
    if alone:
        lines.append(f"nothing on record: {format_list([one.cell for one in alone], _MOST)}")
    return lines


def _format_different(one: CellComparison) -> str:
    why = "under the same numerics fingerprint, so this should not be"
    if one.numerics:
        why = f"which may come of other numerics: {format_list(map(str, one.numerics), 4)}"
    return f"{one.cell}: {format_list(map(str, one.values), 2)}; {why}"

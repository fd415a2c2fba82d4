"""Which cells of a study can be measured again on their own weights: their runs are done, their run folders are those
that gave their rows (equal metrics, to the last bit), and the checkpoints of their last steps were kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core import runfolder
from paribus.study.measures import hash_metrics
from paribus.study.plan import Plan
from paribus.study.rows import Row, read_row


@dataclass(frozen=True)
class Candidate:
    """A finished cell whose weights are there."""

    row: Row
    folder: Path


@dataclass(frozen=True)
class Skipped:
    """A cell that is not measured. is_wrong: whether more is amiss than a run not done or a checkpoint gone."""

    cell: str
    why: str
    is_wrong: bool = False


def find_candidates(plan: Plan, rows: Sequence[Row], runs: Path) -> tuple[list[Candidate], list[Skipped]]:
    """The cells that can be measured, in the order of the plan, and why the others cannot. Reads no checkpoint."""
    by_cell = {row.cell: row for row in rows}
    found: list[Candidate] = []
    skipped: list[Skipped] = []
    for cell in plan.cells:
        row, folder = by_cell.get(cell.name), runs / cell.folder
        if row is None or row.state != "done":
            skipped.append(Skipped(cell.name, "not done" if row is None else row.state))
        elif runfolder.newest_checkpoint_step(folder) != row.steps:
            why = f"no checkpoint of step {row.steps}" if folder.is_dir() else "no run folder"
            skipped.append(Skipped(cell.name, f"{why} in {folder}"))
        elif not _is_of_row(folder, row):
            skipped.append(Skipped(cell.name, f"{folder} has other results than the row on record", is_wrong=True))
        else:
            found.append(Candidate(row, folder))
    return found, skipped


def _is_of_row(folder: Path, row: Row) -> bool:
    here = read_row(folder, row.study, row.arm)
    return here is not None and (here.id, hash_metrics(here.metrics)) == (row.id, hash_metrics(row.metrics))

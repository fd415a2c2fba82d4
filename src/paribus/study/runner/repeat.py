"""`paribus study run --repeat`: every cell trained anew, and held against the rows on record, which stay as they are.

RUNS/repeat-N/ has the run folders, logs and rows (results.jsonl) of one repeat. comparison.json, written once every
cell is done, ends it: the next repeat begins in a new folder, while one without it goes on. So only what was trained
under that folder is ever called equal, however often the command was stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_json
from paribus.study import rows
from paribus.study.plan import Plan
from paribus.study.rows import Row, differing_sources
from paribus.study.spec import RESULTS, Study

SCHEMA = 1
COMPARISON = "comparison.json"
_PREFIX = "repeat-"
_ABSENT = "not there"


@dataclass(frozen=True)
class KeyDifference:
    """One key with its value on record and here."""

    key: str
    recorded: Any
    here: Any

    def __str__(self) -> str:
        return f"{self.key} ({self.recorded} on record, {self.here} here)"


@dataclass(frozen=True)
class CellComparison:
    """A cell of a repeat beside its row on record.

    values: metrics and curves that are not the same bits; of a curve, its value at the first step where it is not.
    result: "other sources" where a package of the user's has changed since, so that equal numbers would show nothing.
    numerics: what else is known to change bits and differs: keys of the fingerprint, and the checksum of the images.
    """

    cell: str
    result: Literal["equal", "different", "other sources", "nothing on record"]
    values: tuple[KeyDifference, ...] = ()
    numerics: tuple[KeyDifference, ...] = ()


def find_newest(runs: Path) -> Path | None:
    """The folder of the newest repeat."""
    numbers = [int(n) for path in runs.glob(f"{_PREFIX}*") if (n := path.name.removeprefix(_PREFIX)).isdecimal()]
    return runs / f"{_PREFIX}{max(numbers)}" if numbers else None


def find_next(runs: Path) -> Path:
    """The folder that a repeat trains in now: the newest if that has not ended, else a new one, not made yet."""
    newest = find_newest(runs)
    if newest is None:
        return runs / f"{_PREFIX}1"
    if not (newest / COMPARISON).exists():
        return newest
    return runs / f"{_PREFIX}{int(newest.name.removeprefix(_PREFIX)) + 1}"


def results_path(study: Study, runs: Path, repeat: bool) -> Path:
    """Where rows go: those of a repeat never into the study's own file. runs: with the run folders."""
    return runs / RESULTS if repeat else study.results_path


def compare_repeat(study: Study, plan: Plan, folder: Path) -> list[CellComparison]:
    """Each cell that is done in a repeat's folder beside its row on record. Raises ConfigError for a damaged one."""
    recorded = {row.cell: row for row in rows.read_rows(study.results_path)}
    found: list[CellComparison] = []
    for cell in plan.cells:
        if not (folder / cell.folder / "DONE").exists():
            continue
        row = rows.read_row(folder / cell.folder, study.name, cell.arm)
        if row is None:
            raise ConfigError(f"{folder / cell.folder} is damaged: it is done, but without a summary; delete it")
        found.append(compare_rows(row, recorded.get(cell.name)))
    return found


def compare_rows(row: Row, recorded: Row | None) -> CellComparison:
    """Metrics and curves on record, to the last bit. Not costs, which are the machine's, nor what came later."""
    if recorded is None or recorded.state != "done" or recorded.id != row.id:
        return CellComparison(row.cell, "nothing on record")
    metrics = {key: value for key, value in row.metrics.items() if key in recorded.metrics}
    curves = {key: curve for key, curve in row.curves.items() if key in recorded.curves}
    values = _diff(recorded.metrics, metrics) + _diff_curves(recorded.curves, curves)
    # the processor's model first: kernels of one capability differ between vendors, and it is the likeliest reason
    processors = (_processor(recorded), _processor(row))
    numerics = (_diff(*processors) if all(processors) else ()) + _diff(recorded.fingerprint, row.fingerprint)
    numerics += _diff(
        {"images": recorded.data_checksum[:12], "mixed segments": recorded.mixed},
        {"images": row.data_checksum[:12], "mixed segments": row.mixed},
    )
    if values:
        return CellComparison(row.cell, "different", values, numerics)
    return CellComparison(row.cell, "other sources" if differing_sources(recorded, row) else "equal", (), numerics)


def end_repeat(folder: Path, found: list[CellComparison]) -> None:
    """Write the comparison. Raises ConfigError."""
    path = folder / COMPARISON
    try:
        write_json(path, {"schema": SCHEMA, "cells": [_to_plain(one) for one in found]})
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _processor(row: Row) -> dict[str, str]:
    return {"processor": cpu} if (cpu := row.hardware.get("cpu")) and not row.hardware.get("gpu") else {}


def _to_plain(one: CellComparison) -> dict[str, Any]:
    return {"cell": one.cell, "result": one.result} | {
        key: [asdict(difference) for difference in those]
        for key, those in (("values", one.values), ("numerics", one.numerics))
    }


def _diff(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[KeyDifference, ...]:
    both = ((key, recorded.get(key, _ABSENT), here.get(key, _ABSENT)) for key in sorted({*recorded, *here}))
    return tuple(KeyDifference(*one) for one in both if _bits(one[1]) != _bits(one[2]))


def _diff_curves(
    recorded: Mapping[str, list[list[float]]], here: Mapping[str, list[list[float]]]
) -> tuple[KeyDifference, ...]:
    found: list[KeyDifference] = []
    for key in sorted({*recorded, *here}):
        one, other = ({point[0]: point[1] for point in curves.get(key, [])} for curves in (recorded, here))
        if apart := _diff({str(k): v for k, v in one.items()}, {str(k): v for k, v in other.items()}):
            first = min(apart, key=lambda difference: float(difference.key))
            found.append(KeyDifference(f"curve {key} at step {first.key}", first.recorded, first.here))
    return tuple(found)


def _bits(value: Any) -> str:
    """Equal for the same bits alone: not for 0.0 and -0.0, but for NaN and NaN."""
    return json.dumps(value, sort_keys=True)

"""One cell of a study trained again, whole, and held against its row on record: `paribus verify STUDY --cell ARM/sN`.

Where nothing differs that may change bits, its metrics and curves have to be the same bits. Elsewhere, on another
processor, version of torch or of this package, rounding alone makes another run of a whole training, as it does on CUDA
without runtime=deterministic; then its metric may be as far from the row's as other seeds are from each other.
"""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paribus.core.errors import ConfigError, RunFailed
from paribus.core.spelling import did_you_mean
from paribus.study.plan import Cell, require_plan
from paribus.study.rows import Row, read_row, read_rows
from paribus.study.runner.cells import explain_exit, read_state, start_process
from paribus.study.runner.repeat import CellComparison, compare_rows
from paribus.study.spec import Study

SPREADS = 3.0  # standard deviations between the other seeds of its arm that a cell may be apart elsewhere
_LEAST_SEEDS = 3  # for a standard deviation that is worth something; of the others, without the cell itself


@dataclass(frozen=True)
class CellVerdict:
    """recorded, here: the metric that decides the study. allowed: how far they may be apart, in its unit; 0 where the
    bits have to be equal. seconds: of the training with all that belongs to it."""

    comparison: CellComparison
    metric: str
    recorded: float
    here: float
    allowed: float
    seconds: float

    @property
    def outcome(self) -> Literal["bit-equal", "within tolerance", "differs"]:
        if self.comparison.result == "equal":
            return "bit-equal"
        if self.comparison.values and not self.allowed:
            return "differs"  # another value of any metric or curve, also where the one that decides is equal
        return "within tolerance" if abs(self.here - self.recorded) <= self.allowed else "differs"


def verify_cell(study: Study, name: str, tolerance: float | None, runs: Path) -> CellVerdict:
    """Train a cell in the folder `runs`. tolerance: of the metric, in its unit; None: SPREADS. Raises ConfigError if it
    has no row, or is another recipe by now, and RunFailed if it fails."""
    cell, row, others = _find_recorded(study, name)
    began = time.monotonic()
    made = _train(study, cell, runs)
    found = compare_rows(made, row)
    if found.result == "nothing on record":
        raise ConfigError(f"{study.folder}: {name} is another recipe by now ({made.id}; its row is of {row.id})")
    metric = study.spec.metric
    allowed = _choose_tolerance(found, made, others, metric) if tolerance is None else tolerance
    recorded, here = (one.metrics.get(metric, math.nan) for one in (row, made))
    return CellVerdict(found, metric, recorded, here, allowed, time.monotonic() - began)


def _find_recorded(study: Study, name: str) -> tuple[Cell, Row, list[Row]]:
    """The cell, its row, and the other done rows of its arm. Not with its own: in the spread of few seeds a wrong row
    would make room for itself (among n it can be no further off than sqrt(n) standard deviations)."""
    cells = require_plan(study).by_name()
    if name not in cells:
        raise ConfigError(
            f"--cell: found {name}{did_you_mean(name, cells)}; should be a cell of {study.folder}, ARM/sN"
        )
    done = [row for row in read_rows(study.results_path) if row.state == "done"]
    row = next((row for row in done if row.cell == name), None)
    if row is None:
        raise ConfigError(f"--cell: {name} has no result in {study.results_path} to compare with")
    return cells[name], row, [one for one in done if one.arm == row.arm and one is not row]


def _train(study: Study, cell: Cell, runs: Path) -> Row:
    process = start_process(runs, cell, study.spec.threads, None, detached=False)
    assert process is not None, "nobody else has this folder"
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    made = read_row(runs / cell.folder, study.name, cell.arm) if code == 0 else None
    if made is None or made.state != "done":
        raise RunFailed(f"{cell.name}: {explain_exit(runs, cell, read_state(runs, cell), code)}")
    return made


def _choose_tolerance(found: CellComparison, made: Row, others: list[Row], metric: str) -> float:
    """0 where the bits are promised, or too few other seeds say how far they are apart."""
    values = [row.metrics[metric] for row in others if math.isfinite(row.metrics.get(metric, math.nan))]
    if (not found.numerics and made.repeats_bits) or len(values) < _LEAST_SEEDS:
        return 0.0
    return SPREADS * statistics.stdev(values)

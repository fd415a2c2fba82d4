"""How long cells take: from the recorded rows, and from the cells that ended in this launch."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from paribus.study.rows import Row

START_S = 5.0  # seconds that a cell needs besides training and evaluating: imports, data, the last checkpoint


def measure_seconds(row: Row) -> float | None:
    """Wall time of a run by its row; None where the row has none."""
    train, evaluate = row.cost.get("train_s"), row.cost.get("eval_s")
    return START_S + train + (evaluate or 0.0) if train is not None else None


class EtaEstimator:
    """Seconds per cell, by arm. This launch's cells take precedence over recorded rows, maybe of another machine."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._recorded: dict[str, list[float]] = {}
        self._seen: dict[str, list[float]] = {}
        for row in rows:
            seconds = measure_seconds(row)
            if row.state == "done" and seconds is not None:
                self._recorded.setdefault(row.arm, []).append(seconds)

    def add_seconds(self, arm: str, seconds: float) -> None:
        self._seen.setdefault(arm, []).append(seconds)

    def estimate_cell(self, arm: str) -> float | None:
        """Seconds of one cell of an arm; of the other arms where this one has none yet; None where nothing is known."""
        if arm in self._seen:
            return fmean(self._seen[arm])
        if arm in self._recorded:
            return fmean(self._recorded[arm]) * self._slowdown()
        every = [s for known in (self._seen or self._recorded).values() for s in known]
        return fmean(every) if every else None

    def _slowdown(self) -> float:
        """How much longer cells take here than their arms' recorded rows: another machine, or a busier one."""
        both = [arm for arm in self._seen if arm in self._recorded]
        recorded = sum(fmean(self._recorded[arm]) for arm in both)
        return sum(fmean(self._seen[arm]) for arm in both) / recorded if recorded else 1.0

    def seconds_left(
        self, waiting: Mapping[str, int], running: Sequence[tuple[str, float]], workers: int
    ) -> float | None:
        """Seconds until all is done. waiting: cells of each arm; running: (arm, seconds since its start) of each.

        Total work divided by workers, but at least the longest cell.
        """
        each = {arm: self.estimate_cell(arm) for arm in {*waiting, *(arm for arm, _ in running)}}
        if any(seconds is None for seconds in each.values()):
            return None
        rest = [max(0.0, (each[arm] or 0.0) - spent) for arm, spent in running]
        ahead = [(each[arm] or 0.0, count) for arm, count in waiting.items() if count]
        work = sum(rest) + sum(seconds * count for seconds, count in ahead)
        return max([work / max(1, workers), *rest, *(seconds for seconds, _ in ahead)], default=0.0)

"""How long cells take: from the rows on record, and from the cells that this launch has seen end."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from paribus.study.record import Row

START_S = 5.0  # seconds that a cell needs beside training and evaluating: imports, data, the last checkpoint


def seconds_of(row: Row) -> float | None:
    """Wall time of a run by its row; None where the row does not tell."""
    train, evaluate = row.cost.get("train_s"), row.cost.get("eval_s")
    return START_S + train + (evaluate or 0.0) if train is not None else None


class Pace:
    """Seconds a cell, by arm. What was seen here counts before what is on record, which may be of another machine."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._recorded: dict[str, list[float]] = {}
        self._seen: dict[str, list[float]] = {}
        for row in rows:
            seconds = seconds_of(row)
            if row.state == "done" and seconds is not None:
                self._recorded.setdefault(row.arm, []).append(seconds)

    def saw(self, arm: str, seconds: float) -> None:
        self._seen.setdefault(arm, []).append(seconds)

    @property
    def known(self) -> int:
        """How many cells the estimates rest on."""
        return sum(map(len, (self._seen or self._recorded).values()))

    def of(self, arm: str) -> float | None:
        """Seconds of one cell of an arm; of the other arms where this one has none yet; None where nothing is known."""
        for source in (self._seen, self._recorded):
            if arm in source:
                return fmean(source[arm])
        every = [s for known in (self._seen or self._recorded).values() for s in known]
        return fmean(every) if every else None

    def left(self, waiting: Mapping[str, int], running: Sequence[tuple[str, float]], workers: int) -> float | None:
        """Seconds until all is done. waiting: cells of each arm; running: (arm, seconds since its start) of each.

        Work over workers, but not less than the longest cell.
        """
        each = {arm: self.of(arm) for arm in {*waiting, *(arm for arm, _ in running)}}
        if any(seconds is None for seconds in each.values()):
            return None
        rest = [max(0.0, (each[arm] or 0.0) - spent) for arm, spent in running]
        ahead = [(each[arm] or 0.0, count) for arm, count in waiting.items() if count]
        work = sum(rest) + sum(seconds * count for seconds, count in ahead)
        return max([work / max(1, workers), *rest, *(seconds for seconds, _ in ahead)], default=0.0)

"""What a sequential plan errs and costs, by simulation: false claims, seeds until it is decided, coverage.

    studies = simulate(SequentialPlan(5, 5, 30), effects=(0.01, 0.01, 0.01), sd=0.01, margin=0.01)
    studies.seeds.mean()                                      # of an arm, until its comparison is closed
    studies.differs.any(axis=1).mean()                        # studies with any better or worse

Differences are normal; comparisons share a baseline and are so correlated by 0.5. The claims are made by the function
that decides real studies (`sequential.make_claims`). 20,000 studies of 3 comparisons take a quarter of a second.
scripts/sequential_seeds.py prints the tables of docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from paribus.study.stats.resampling import make_generator
from paribus.study.stats.sequential import SequentialPlan, family_levels, make_claims

_CHUNK = 5_000  # studies simulated at a time; 30 seeds of 6 comparisons are 7 MB


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedStudies:
    """Arrays of shape (studies, comparisons), at the look that closed the comparison, or at the last.

    differs, negligible: which claims were made. seeds: of the arm by then. mean: measured difference, in the unit of
    the effects. covered: whether the repeated confidence interval held the truth. always_covered: at every look.
    """

    differs: NDArray[np.bool_]
    negligible: NDArray[np.bool_]
    seeds: NDArray[np.int64]
    mean: NDArray[np.float64]
    covered: NDArray[np.bool_]
    always_covered: NDArray[np.bool_]

    @property
    def closed(self) -> NDArray[np.bool_]:
        """Comparisons that were decided."""
        return self.differs | self.negligible


def simulate(
    plan: SequentialPlan,
    effects: Sequence[float],
    *,
    sd: float,
    margin: float,
    studies: int = 20_000,
    name: str = "sequential studies",
) -> SimulatedStudies:
    """effects: the true difference of each comparison. sd: of a single paired difference. name: keys the draws."""
    thresholds = _thresholds(plan, len(effects))
    chunks = [
        _simulate_chunk(
            plan, np.array(effects) / sd, margin / sd, min(_CHUNK, studies - start), thresholds, name, start
        )
        for start in range(0, studies, _CHUNK)
    ]
    joined = {f.name: np.concatenate([getattr(c, f.name) for c in chunks]) for f in fields(SimulatedStudies)}
    return SimulatedStudies(**{**joined, "mean": joined["mean"] * sd})


@dataclass(frozen=True, slots=True, eq=False)
class _Thresholds:
    """Lower quantiles of Student's t at the nominal levels: -t is compared with them, which saves the p values."""

    zero: NDArray[np.float64]  # (m + 1, looks)
    beyond: NDArray[np.float64]
    interval: NDArray[np.float64]  # (looks,)


def _thresholds(plan: SequentialPlan, m: int) -> _Thresholds:
    from scipy.special import stdtrit

    df = np.array(plan.looks) - 1
    zero, beyond = family_levels(plan, m, 2) / 2, family_levels(plan, m, 1)
    quantiles = [np.where(p > 0, stdtrit(df, np.where(p > 0, p, 0.5)), -np.inf) for p in (zero, beyond)]
    return _Thresholds(*quantiles, interval=quantiles[0][1])


def _simulate_chunk(
    plan: SequentialPlan, effects: NDArray, margin: float, count: int, at: _Thresholds, name: str, start: int
) -> SimulatedStudies:
    """Everything in units of sd."""
    m = len(effects)
    random = make_generator(name, start, m, plan.most)
    runs = random.standard_normal((count, m + 1, plan.most)) * math.sqrt(0.5)
    noise = runs[:, 1:] - runs[:, :1]
    sums, squares = noise.cumsum(-1), np.square(noise).cumsum(-1)
    differs, negligible, still_open, held = (np.full((count, m), v) for v in (False, False, True, True))
    seeds, mean, covered = np.zeros((count, m), dtype=np.int64), np.zeros((count, m)), np.zeros((count, m), dtype=bool)
    for k, n in enumerate(plan.looks):
        error = sums[..., n - 1] / n
        se = np.sqrt((squares[..., n - 1] / n - error * error) / (n - 1))
        now = error + effects
        holds = -np.abs(error) / se >= at.interval[k]
        seeds, mean, covered = (
            np.where(still_open, new, old) for new, old in ((n, seeds), (now, mean), (holds, covered))
        )
        held &= holds
        differs = make_claims(-np.abs(now) / se, at.zero[:, k], differs, still_open)
        negligible = make_claims((np.abs(now) - margin) / se, at.beyond[:, k], negligible, still_open)
        still_open = ~(differs | negligible)
    return SimulatedStudies(differs, negligible, seeds, mean, covered, held)

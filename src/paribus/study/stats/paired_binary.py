"""Two models on the same examples, each right or wrong on each: the difference of their accuracies.

The population is examples, not seeds: what follows holds for these two trained models, and not for the recipes that
made them. Only examples that one model alone has right say anything about the difference.

* p of "no difference": McNemar's test, exact (binomial with 1/2 over those examples).
* Interval, and p against a margin: Tango's score test (1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>
  3.0.CO;2-B). It stays honest where few examples differ, or none, where a bootstrap sees no spread at all.
* Examples in clusters (frames of a video, questions on one text) are not independent. Then everything is Student's t
  over clusters, with the cluster-robust standard error of a ratio and (number of clusters - 1) degrees of freedom.
* Beside it, deciding nothing: the percentile bootstrap over examples, or over whole clusters.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from paribus.study.stats.estimate import NAN, Estimate, estimate_from_error

RESAMPLES = 10_000
_MAX_DRAWS = 20_000_000  # resamples times kinds of clusters; beyond, fewer resamples: a second at most


@dataclass(frozen=True)
class Outcomes:
    """Examples by which of the two has them right: both, the arm alone, the baseline alone, neither.

    differences, sizes: for each cluster, (arm right alone - baseline right alone) and its number of examples; None
    without clusters.
    """

    both: int
    arm: int
    baseline: int
    neither: int
    differences: np.ndarray | None = field(default=None, compare=False)
    sizes: np.ndarray | None = field(default=None, compare=False)

    @property
    def n(self) -> int:
        return self.both + self.arm + self.baseline + self.neither

    @property
    def difference(self) -> float:
        return (self.arm - self.baseline) / self.n

    @property
    def clusters(self) -> int | None:
        return None if self.sizes is None else len(self.sizes)


def count_outcomes(arm: np.ndarray, baseline: np.ndarray, clusters: np.ndarray | None = None) -> Outcomes:
    """arm, baseline: whether each is right, over the same examples. clusters: the cluster's number of each, from 0."""
    counts = np.bincount(2 * arm.astype(np.int64) + baseline.astype(np.int64), minlength=4)
    neither, other, one, both = (int(count) for count in counts)
    if clusters is None:
        return Outcomes(both, one, other, neither)
    differences = np.bincount(clusters, weights=arm.astype(np.float64) - baseline.astype(np.float64))
    return Outcomes(both, one, other, neither, differences, np.bincount(clusters).astype(np.float64))


def mcnemar_p(arm: int, baseline: int) -> float:
    """Exact two-sided p of "either is as likely to be the one that is right", from the two counts."""
    from scipy.special import bdtr

    n = arm + baseline
    return min(1.0, 2 * float(bdtr(min(arm, baseline), n, 0.5))) if n else 1.0


def estimate_difference(o: Outcomes, *, bonus: float = 0.0, margin: float = 0.0, alpha: float = 0.05) -> Estimate:
    """Accuracy of the arm, plus a bonus, minus that of the baseline. n: examples; df: of the clusters, if there are."""
    if o.sizes is not None:
        return _estimate_clustered(o, bonus, margin, alpha)
    from scipy.special import ndtr

    mean = o.difference
    sd = math.sqrt(max(0.0, (o.arm + o.baseline) / o.n - mean * mean) * o.n / (o.n - 1)) if o.n > 1 else NAN
    low, high = _score_interval(o, alpha)
    p_zero = 2 * float(ndtr(-abs(_score(o, -bonus)))) if bonus else mcnemar_p(o.arm, o.baseline)
    p_beyond = NAN
    if margin > 0:
        p_beyond = max(float(ndtr(_score(o, margin - bonus))), float(ndtr(-_score(o, -margin - bonus))))
    spread = o.arm + o.baseline > 0
    return Estimate(
        o.n, mean + bonus, sd, sd / math.sqrt(o.n), o.n - 1, low + bonus, high + bonus, p_zero, p_beyond, spread
    )


def _score(o: Outcomes, delta: float) -> float:
    """Tango's statistic of "the true difference is delta", a standard normal one where it is; it falls as delta grows.

    The variance is that of the likeliest proportions under this hypothesis: q of the baseline right alone, q + delta
    of the arm right alone.
    """
    if abs(delta) >= 1:
        return -math.inf if delta > 0 else math.inf
    n, b, c = o.n, o.arm, o.baseline
    linear, constant = (2 * n - b + c) * delta - b - c, -c * delta * (1 - delta)
    q = (math.sqrt(linear * linear - 8 * n * constant) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    excess = b - c - n * delta
    return excess / math.sqrt(variance) if variance > 0 else 0.0 if excess == 0 else math.copysign(math.inf, excess)


def _score_interval(o: Outcomes, alpha: float) -> tuple[float, float]:
    """The differences that the score test does not reject."""
    from scipy.special import ndtri

    z = -float(ndtri(alpha / 2))
    return _find_difference(o, z), _find_difference(o, -z)


def _find_difference(o: Outcomes, statistic: float) -> float:
    low, high = -1.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _score(o, middle) > statistic else (low, middle)
    return (low + high) / 2


def _estimate_clustered(o: Outcomes, bonus: float, margin: float, alpha: float) -> Estimate:
    assert o.differences is not None
    assert o.sizes is not None
    clusters, mean = len(o.sizes), o.difference
    if clusters < 2:
        return Estimate(clusters, mean + bonus)
    residuals = o.differences - mean * o.sizes
    se = math.sqrt(clusters / (clusters - 1) * float(residuals @ residuals)) / o.n
    if se > 1e-12:
        return estimate_from_error(o.n, mean + bonus, se, clusters - 1, margin=margin, alpha=alpha)
    rarest = 0.5**clusters  # every cluster could as well have had the other sign
    p_zero = 1.0 if mean + bonus == 0 else min(1.0, 2 * rarest)
    p_beyond = (rarest if abs(mean + bonus) < margin else 1.0) if margin > 0 else NAN
    return Estimate(o.n, mean + bonus, 0.0, 0.0, clusters - 1, NAN, NAN, p_zero, p_beyond, spread=False)


def bootstrap_interval(o: Outcomes, random: np.random.Generator, *, alpha: float = 0.05) -> tuple[float, float]:
    """Percentile interval of the difference over resampled examples, or whole clusters; NaN where nothing differs.

    Examples and clusters that are alike are drawn together, as how many of each kind there are: the same distribution
    at the cost of the kinds.
    """
    if o.arm + o.baseline == 0:
        return NAN, NAN
    if o.differences is None or o.sizes is None:
        kinds, counts = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]]), [o.arm, o.baseline, o.both + o.neither]
    else:
        kinds, counts = np.unique(np.stack([o.differences, o.sizes], axis=1), axis=0, return_counts=True)
    values = _resample(kinds, np.asarray(counts), random)
    low, high = np.quantile(values, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _resample(kinds: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    units = int(counts.sum())
    resamples = max(1000, min(RESAMPLES, _MAX_DRAWS // len(counts)))
    rows = max(1, 4_000_000 // len(counts))
    sums: list[np.ndarray] = []
    for start in range(0, resamples, rows):
        drawn = random.multinomial(units, counts / units, size=min(rows, resamples - start))
        sums.append(drawn @ kinds)
    differences, sizes = np.concatenate(sums).T
    return differences / sizes

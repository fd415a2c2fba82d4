"""How many seeds a claim needs, and what the available seeds can show.

Everything follows from the standard deviation of one paired difference, the level of the test and the requested power.
Two-sided t: exact, by the noncentral t distribution. Two one-sided tests (equivalence): exact, by integrating over the
distribution of the measured standard deviation, since both tests share it.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from paribus.study.stats.estimate import check_fraction

_MAX_EXACT_SEEDS = 10**6  # beyond so many seeds the normal approximation is as exact, and nobody would run them


def power_of_difference(effect: float, n: int, *, sd: float, alpha: float = 0.05) -> float:
    """Probability that the two-sided paired t test on n seeds finds a true difference of this size, with its sign."""
    return _detection_probability(abs(effect) / sd * math.sqrt(n), n - 1, alpha)


def _detection_probability(shift: float, df: float, alpha: float) -> float:
    """P(T > t) for noncentral T. The other tail, a claim of the wrong sign, is no finding (and NaN in nctdtr)."""
    from scipy.special import nctdtr, stdtrit

    return float(1 - nctdtr(df, shift, stdtrit(df, 1 - alpha / 2)))


def power_of_equivalence(margin: float, n: int, *, sd: float, alpha: float = 0.05, effect: float = 0.0) -> float:
    """Probability that TOST on n seeds says "within the margin" when the true difference is `effect`.

    Given the measured s, both tests pass when the mean lies within margin - t s / sqrt(n) of zero: a normal
    probability, which is then averaged over the density of s / sd.
    """
    from scipy.special import ndtr, stdtrit

    df, root = n - 1, math.sqrt(n) / sd
    t = float(stdtrit(df, 1 - alpha))
    # ±9 standard deviations of s / sd; above the last term the acceptance region is empty
    low, high = max(0.0, 1 - 9 / math.sqrt(2 * df)), min(1 + 9 / math.sqrt(2 * df), margin * root / t)
    if high <= low:
        return 0.0
    nodes, weights = _gauss_legendre()
    s = low + (high - low) / 2 * (nodes + 1)
    log_constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density = np.exp(log_constant + (df - 1) * np.log(s) - df * s * s / 2)
    inside = ndtr((margin - effect) * root - t * s) - ndtr((-margin - effect) * root + t * s)
    return float((high - low) / 2 * np.dot(weights, density * inside))


@lru_cache(maxsize=1)
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(96)


def seeds_for_difference(effect: float, *, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Seeds for the paired t test to find a true difference of this size with this power; at least 2."""
    ratio = _effect_ratio(effect, sd, alpha, power)
    start = ((_normal_quantile(1 - alpha / 2) + _normal_quantile(power)) / ratio) ** 2 if ratio < math.inf else 0
    return _find_smallest(lambda n: power_of_difference(ratio, n, sd=1.0, alpha=alpha) >= power, start)


def seeds_for_unpaired_difference(effect: float, *, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Runs of each of two independent arms for the unpaired t test to find a true difference of this size with this
    power; at least 2. sd: of a single run, the same in both arms."""
    ratio = _effect_ratio(effect, sd, alpha, power)
    start = 2 * ((_normal_quantile(1 - alpha / 2) + _normal_quantile(power)) / ratio) ** 2 if ratio < math.inf else 0
    return _find_smallest(
        lambda n: _detection_probability(ratio * math.sqrt(n / 2), 2 * (n - 1), alpha) >= power, start
    )


def seeds_for_equivalence(margin: float, *, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Seeds for TOST to say "within the margin" with this power when the true difference is 0; at least 2."""
    ratio = _effect_ratio(margin, sd, alpha, power)
    start = ((_normal_quantile(1 - alpha) + _normal_quantile((1 + power) / 2)) / ratio) ** 2 if ratio < math.inf else 0
    return _find_smallest(lambda n: power_of_equivalence(ratio, n, sd=1.0, alpha=alpha) >= power, start)


def seeds_to_decide(margin: float, *, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Seeds that find a true difference of the margin's size, and call a true difference of 0 equivalent.

    Each with this power. A true difference between the two may need more: see `seeds_to_settle`.
    """
    wanted = {"sd": sd, "alpha": alpha, "power": power}
    return max(seeds_for_difference(margin, **wanted), seeds_for_equivalence(margin, **wanted))


def seeds_to_settle(margin: float, *, sd: float, alpha: float = 0.05) -> int:
    """Seeds from which no outcome is undecided, if the measured sd stays as it is.

    A mean too small to be significant is then small enough to be equivalent: the half widths of the two tests
    together fit into the margin.
    """
    from scipy.special import stdtrit

    ratio = _effect_ratio(margin, sd, alpha, 0.5)

    def settled(n: int) -> bool:
        return bool((stdtrit(n - 1, 1 - alpha / 2) + stdtrit(n - 1, 1 - alpha)) / math.sqrt(n) <= ratio)

    start = ((_normal_quantile(1 - alpha / 2) + _normal_quantile(1 - alpha)) / ratio) ** 2 if ratio < math.inf else 0
    return _find_smallest(settled, start)


def seeds_without_spread(alpha: float = 0.05) -> int:
    """Equal differences needed before the exact test's 2 * 2^-n is at most alpha: 6 at 0.05."""
    return math.ceil(1 - math.log2(alpha))


def minimum_detectable(se: float, df: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The true difference that this standard error finds with this power, in the unit of se.

    For n pairs: se = sd / sqrt(n), df = n - 1. For two independent arms of n runs with one spread: se = sd sqrt(2 / n),
    df = 2 (n - 1), with the sd of a single run.
    """
    return se * _detectable_shift(df, alpha, power)


@lru_cache(maxsize=4096)
def _detectable_shift(df: float, alpha: float, power: float) -> float:
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    low, high = 0.0, 4.0
    while _detection_probability(high, df, alpha) < power:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _detection_probability(middle, df, alpha) >= power else (middle, high)
    return high


def sd_interval(sd: float, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """1 - alpha interval of a standard deviation measured on n seeds: wide, e.g. 0.6 to 2.9 times it at n = 5."""
    from scipy.special import chdtri

    if n < 2:
        return 0.0, math.inf
    return sd * math.sqrt((n - 1) / chdtri(n - 1, alpha / 2)), sd * math.sqrt((n - 1) / chdtri(n - 1, 1 - alpha / 2))


def _effect_ratio(effect: float, sd: float, alpha: float, power: float) -> float:
    check_fraction("alpha", alpha)
    check_fraction("power", power)
    if not (effect > 0 and 0 <= sd < math.inf):
        raise ValueError(f"needs an effect > 0 and a finite sd >= 0; found effect {effect}, sd {sd}")
    return max(effect / sd, 1e-9) if sd > 0 else math.inf  # at 1e-9 the answer is 10^18 seeds: never


def _normal_quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))


def _find_smallest(enough: Callable[[int], bool], start: float) -> int:
    """The smallest n >= 2 that is enough, where more is enough too; quick when `start` is near it."""
    if start == 0:
        return 2
    if start > _MAX_EXACT_SEEDS:
        return math.ceil(start)
    low, high, step = 1, max(2, math.floor(start)), 1  # one seed is never enough: it has no spread
    while not enough(high):
        low, high, step = high, high + step, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

"""One estimated difference: its mean, its t interval, and the two p values that a verdict rests on.

The numbers are differences between runs, one per seed (`one_sample`), or two arms that share no seeds (`welch`). Sums
are exact (`math.fsum`), so the order of the seeds changes nothing, not even the last bit; swapping arms only negates.

No spread. When all differences are equal up to rounding, t divides by zero and would be certain after two seeds; with
accuracies that are multiples of 1/360 this does happen by chance. Then an exact test is used: n equal differences
have a one-sided p of 2^-n (each could as well have had the other sign), and an interval exists only where twice that
is at most alpha (6 seeds at 0.05).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paribus.core.errors import ConfigError

Values = Mapping[int, float]  # seed -> value of the metric; NaN, infinite or absent: the cell failed

_ROUNDING = 8 * 2.0**-52  # a difference of two rounded numbers is off by this many times their size, at most
NAN = math.nan


@dataclass(frozen=True, slots=True)
class Estimate:
    """What n seeds say about one difference. NaN is "undefined": below two seeds everything but the mean is.

    n: differences used; without pairing, the size of the smaller arm. mean, low, high: the difference and its
    1 - alpha interval, in the metric's unit. sd: of a single difference; without pairing, of the difference of two
    independent runs. se, df: standard error of the mean and its degrees of freedom.
    p_zero: two-sided p of "the true difference is 0". p_beyond: p of "the true difference is at least the margin, up
    or down" (two one-sided tests: the larger p); NaN without a margin. spread: whether the differences differ.
    """

    n: int
    mean: float
    sd: float = NAN
    se: float = NAN
    df: float = NAN
    low: float = NAN
    high: float = NAN
    p_zero: float = NAN
    p_beyond: float = NAN
    spread: bool = True

    @property
    def effect_size(self) -> float:
        """The mean in units of sd (Cohen's d_z for pairs); NaN where there is no spread."""
        return self.mean / self.sd if self.sd > 0 else NAN


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """Values of which only their number, mean and standard deviation (divisor n - 1) are known."""

    n: int
    mean: float
    sd: float


def drop_failed(values: Values) -> dict[int, float]:
    """The cells that hold a number, by ascending seed."""
    return {seed: float(values[seed]) for seed in sorted(values) if math.isfinite(values[seed])}


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean (NaN of nothing) and sample standard deviation (NaN below two values)."""
    if not values:
        return NAN, NAN
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, NAN
    return mean, math.sqrt(math.fsum([(v - mean) * (v - mean) for v in values]) / (len(values) - 1))


def one_sample(values: Sequence[float], *, margin: float = 0.0, alpha: float = 0.05, scale: float = 0.0) -> Estimate:
    """Student's t on one difference per seed. scale: size of the numbers subtracted, to recognise rounding."""
    n = len(values)
    mean, sd = mean_and_sd(values)
    if n < 2:
        return Estimate(n, mean)
    rounding = _ROUNDING * max(scale, max(abs(v) for v in values))
    if sd == 0 or max(values) - min(values) <= rounding:
        return _estimate_without_spread(n, mean, n - 1, rounding, 0.5**n, margin, alpha)
    return _estimate_by_t(n, mean, sd, sd / math.sqrt(n), n - 1, margin, alpha)


def welch(a: Sequence[float], b: Sequence[float], *, margin: float = 0.0, alpha: float = 0.05) -> Estimate:
    """mean(a) - mean(b) for arms that are independent of each other, with Welch's degrees of freedom."""
    n = min(len(a), len(b))
    (mean_a, sd_a), (mean_b, sd_b) = mean_and_sd(a), mean_and_sd(b)
    if n < 2:
        return Estimate(n, mean_a - mean_b)
    mean, sd = mean_a - mean_b, math.hypot(sd_a, sd_b)
    rounding = _ROUNDING * max(abs(v) for v in (*a, *b))
    if sd == 0 or max(max(a) - min(a), max(b) - min(b)) <= rounding:
        df = len(a) + len(b) - 2
        return _estimate_without_spread(n, mean, df, rounding, 1 / math.comb(len(a) + len(b), len(a)), margin, alpha)
    se_a, se_b = sd_a / math.sqrt(len(a)), sd_b / math.sqrt(len(b))
    se = math.hypot(se_a, se_b)
    df = 1 / ((se_a / se) ** 4 / (len(a) - 1) + (se_b / se) ** 4 / (len(b) - 1))
    return _estimate_by_t(n, mean, sd, se, df, margin, alpha)


def welch_of_samples(a: SampleSummary, b: SampleSummary, *, margin: float = 0.0, alpha: float = 0.05) -> Estimate:
    """As `welch`, where only size, mean and standard deviation of the arms are known; most published tables have no
    more."""
    n, mean = min(a.n, b.n), a.mean - b.mean
    if n < 2:
        return Estimate(n, mean)
    rounding = _ROUNDING * max(abs(a.mean), abs(b.mean))
    if max(a.sd, b.sd) <= rounding:
        rarest = 1 / math.comb(a.n + b.n, a.n)
        return _estimate_without_spread(n, mean, a.n + b.n - 2, rounding, rarest, margin, alpha)
    se_a, se_b = a.sd / math.sqrt(a.n), b.sd / math.sqrt(b.n)
    se = math.hypot(se_a, se_b)
    df = 1 / ((se_a / se) ** 4 / (a.n - 1) + (se_b / se) ** 4 / (b.n - 1))
    return _estimate_by_t(n, mean, math.hypot(a.sd, b.sd), se, df, margin, alpha)


def estimate_from_error(
    n: int, mean: float, se: float, df: float, *, margin: float = 0.0, alpha: float = 0.05
) -> Estimate:
    """Student's t on a standard error above 0 that was computed elsewhere."""
    return _estimate_by_t(n, mean, se * math.sqrt(n), se, df, margin, alpha)


def _estimate_by_t(n: int, mean: float, sd: float, se: float, df: float, margin: float, alpha: float) -> Estimate:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(df, 1 - alpha / 2)) * se
    p_zero = 2 * float(stdtr(df, -abs(mean) / se))
    # the harder of the two one-sided tests is the one against the nearer edge of the margin
    p_beyond = float(stdtr(df, (abs(mean) - margin) / se)) if margin > 0 else NAN
    return Estimate(n, mean, sd, se, df, mean - half, mean + half, p_zero, p_beyond)


def _estimate_without_spread(
    n: int, mean: float, df: float, rounding: float, rarest: float, margin: float, alpha: float
) -> Estimate:
    """rarest: one-sided p of the most extreme arrangement that an exact test can see."""
    p_zero = 1.0 if abs(mean) <= rounding else min(1.0, 2 * rarest)
    p_beyond = (rarest if margin - abs(mean) > rounding else 1.0) if margin > 0 else NAN
    at = mean if 2 * rarest <= alpha else NAN
    return Estimate(n, mean, 0.0, 0.0, df, at, at, p_zero, p_beyond, spread=False)


def check_fraction(name: str, value: float) -> None:
    """Refuse a level, a power or a probability outside (0, 1)."""
    if not 0 < value < 1:
        raise ConfigError(f"{name}: found {value}, must lie between 0 and 1")

"""Time to a target that some runs never reach: these are censored, not dropped and not counted as failed.

Dropping the runs that never arrive would favour the arm that fails more often. So:

* per arm: how many arrived, and the Kaplan-Meier median, which is undefined when fewer than half did;
* between arms: the time up to a common horizon, min(time, horizon). The horizon is the shortest time for which any run
  was watched without arriving (one budget for all arms makes it that budget), so that this number is *known* for
  every run, and the paired t, its interval, TOST and Holm apply as to any metric. It ignores what comes after;
* as robustness row the sign test: on how many seeds the arm arrived sooner. It also uses pairs in which only one run
  arrived, and no size of differences. Like the sign-flip test it cannot fall below 2^(1-n).

Times are in any unit (steps, seconds) and as precise as the spacing of evaluations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paribus.study.stats.estimate import NAN, mean_and_sd
from paribus.study.stats.paired import Comparison, compare_all
from paribus.study.stats.verdict import Rule, Verdict


@dataclass(frozen=True, slots=True)
class Arrival:
    """time: when the run reached the target, or, if it did not, how long it was watched. Not finite: it failed."""

    time: float
    reached: bool


Arrivals = Mapping[int, Arrival]  # seed -> arrival


@dataclass(frozen=True, slots=True)
class ArrivalSummary:
    """restricted_mean: mean of min(time, horizon) over the n runs; median: Kaplan-Meier's, NaN if never reached."""

    n: int
    reached: int
    median: float
    restricted_mean: float
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TimeComparison:
    """comparison: of min(time, horizon), lower being better; not testable where no run of either arm arrived
    before the horizon.

    sooner, later, tied, unknown: numbers of seeds, by which arm arrived first; unknown if neither did, or if one was
    last seen under way before the other arrived. sign_p: exact, two-sided.
    """

    comparison: Comparison
    horizon: float
    sooner: int
    later: int
    tied: int
    unknown: int
    sign_p: float


def find_arrival(times: Sequence[float], values: Sequence[float], target: float, *, higher_is_better: bool) -> Arrival:
    """The arrival of one run: the first evaluation at or beyond the target; else the last one, not reached.

    times: of each evaluation, ascending. A run without evaluations failed.
    """
    for time, value in zip(times, values, strict=True):
        if (value >= target) if higher_is_better else (value <= target):
            return Arrival(time, True)
    return Arrival(times[-1] if times else NAN, False)


def common_horizon(arms: Mapping[str, Arrivals]) -> float:
    """The shortest time for which a run of any arm was watched without arriving; infinite if all arrived."""
    return min((a.time for arm in arms.values() for a in _drop_failed(arm).values() if not a.reached), default=math.inf)


def summarise_arrivals(arm: Arrivals, horizon: float) -> ArrivalSummary:
    """horizon: the study's, from `common_horizon`."""
    seen = _drop_failed(arm)
    restricted, _ = mean_and_sd([min(a.time, horizon) for a in seen.values()])
    reached = sum(a.reached for a in seen.values())
    missing = tuple(sorted(arm.keys() - seen.keys()))
    return ArrivalSummary(len(seen), reached, median_time(list(seen.values())), restricted, missing)


def median_time(arrivals: Sequence[Arrival]) -> float:
    """Kaplan-Meier median: the first time at which the estimated share still under way is one half or less."""
    under_way = 1.0
    for time in sorted({a.time for a in arrivals if a.reached}):
        at_risk = sum(a.time >= time for a in arrivals)
        under_way *= 1 - sum(a.reached and a.time == time for a in arrivals) / at_risk
        if under_way <= 0.5 + 1e-12:  # the product of fractions rounds
            return time
    return NAN


def compare_times(
    arms: Mapping[str, Arrivals], pairs: Sequence[tuple[str, str]], rule: Rule
) -> tuple[TimeComparison, ...]:
    """All comparisons of a study by time to the target; rule.margin in the unit of time, shorter always being better.

    Arms that share too few seeds are compared by Welch's test, and then have no sign test.
    """
    horizon = common_horizon(arms)
    restricted = {
        name: {seed: min(a.time, horizon) if math.isfinite(a.time) else NAN for seed, a in arm.items()}
        for name, arm in arms.items()
    }
    comparisons = compare_all(restricted, pairs, replace(rule, higher_is_better=False))
    return tuple(_add_sign_test(c, arms[c.arm], arms[c.baseline], horizon) for c in comparisons)


def _add_sign_test(comparison: Comparison, arm: Arrivals, baseline: Arrivals, horizon: float) -> TimeComparison:
    runs = [*_drop_failed(arm).values(), *_drop_failed(baseline).values()]
    if not any(a.reached and a.time < horizon for a in runs):
        # all times equal the horizon: no evidence of equivalence, and a difference of 0 is none that was seen
        nothing = replace(comparison.judgement, verdict=Verdict.UNTESTABLE, p_zero=NAN, p_beyond=NAN, more_seeds=None)
        unseen = replace(comparison.estimate, mean=NAN, low=NAN, high=NAN)
        comparison = replace(comparison, judgement=nothing, estimate=unseen)
    orders = [_compare_arrivals(arm[s], baseline[s]) for s in comparison.seeds]
    sooner, later, tied = (orders.count(which) for which in (-1, 1, 0))
    sign_p = sign_test_p(sooner, later) if orders else NAN
    return TimeComparison(comparison, horizon, sooner, later, tied, orders.count(None), sign_p)


def _compare_arrivals(a: Arrival, b: Arrival) -> int | None:
    """-1 where a arrived first, 1 where b did, 0 together, None where unknown."""
    if a.reached and b.reached:
        return (a.time > b.time) - (a.time < b.time)
    if a.reached and b.time >= a.time:
        return -1
    if b.reached and a.time >= b.time:
        return 1
    return None


def sign_test_p(sooner: int, later: int) -> float:
    """Exact two-sided binomial p of "either is as likely to arrive first"; 1 when nothing is decided."""
    n, fewer = sooner + later, min(sooner, later)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def _drop_failed(arm: Arrivals) -> dict[int, Arrival]:
    return {seed: arm[seed] for seed in sorted(arm) if math.isfinite(arm[seed].time)}

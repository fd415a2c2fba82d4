"""The noise floor: one recipe against itself, with other seeds in each half, and what it says about other comparisons.

Both halves are the same recipe, so their true difference is 0, and a verdict of better or worse is a false one. The
spread of all runs says which true difference n seeds of each arm find: of two independent arms with this spread, or of
paired ones whose runs do not correlate. What pairing is worth beyond that can only be seen with both arms.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paribus.study.stats import (
    ArmSummary,
    Comparison,
    Rule,
    Values,
    compare_all,
    minimum_detectable,
    sd_interval,
    seeds_for_difference,
    seeds_for_unpaired_difference,
    summarise,
)
from paribus.study.stats.estimate import NAN

FIRST, SECOND = "the first half", "the second half"
SEEDS = (2, 3, 5, 8, 10, 20, 30)  # of each arm, for which the detectable difference is given


@dataclass(frozen=True)
class Detectable:
    """The true difference that n seeds of each arm find, in the metric's unit; NaN where the runs have no spread.

    unpaired: of independent arms; low, high: the same at the ends of the 95 % interval of the standard deviation.
    paired: of arms that share seeds, if their runs do not correlate.
    """

    n: int
    unpaired: float
    low: float
    high: float
    paired: float


@dataclass(frozen=True)
class SeedsToDetect:
    """Seeds of each arm that find a true difference of the size `effect`; fields as in Detectable."""

    effect: float
    unpaired: int
    low: int
    high: int
    paired: int


@dataclass(frozen=True)
class NoiseFloor:
    """seeds: the planned ones; halves: of them, in order. comparison: the first half - the second, by Welch. runs: both
    together; sd_low, sd_high: the 95 % interval of its sd.

    alpha: the level at which differences are to be found: 0.05 over the study's number of comparisons, Holm's strictest
    step. power: the probability with which. planned: what the study's own number of seeds finds; None without a study.
    needed: for the rule's margin; None without one or without spread. failed: seeds whose run failed or has no such
    metric; missing: seeds without a run. changed: why all of this is of another recipe than the arm's now; "" if it is
    not.
    """

    arm: str
    metric: str
    rule: Rule
    seeds: tuple[int, ...]
    halves: tuple[ArmSummary, ArmSummary]
    comparison: Comparison
    runs: ArmSummary
    sd_low: float
    sd_high: float
    comparisons: int
    alpha: float
    power: float
    detectable: tuple[Detectable, ...]
    planned: Detectable | None
    needed: SeedsToDetect | None
    failed: tuple[int, ...]
    missing: tuple[int, ...]
    changed: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether there are enough runs, two in each half, and of the recipe that the arm has now."""
        return not self.changed and all(half.n >= 2 for half in self.halves)


def measure_noise(
    arm: str,
    metric: str,
    values: Values,
    seeds: Iterable[int],
    rule: Rule,
    *,
    comparisons: int = 1,
    planned: int | None = None,
    changed: str = "",
) -> NoiseFloor:
    """The noise floor of a recipe. values: seed -> final value of the metric of runs that have ended, NaN of a failed
    one. seeds: the planned ones. comparisons: of the study whose baseline it is; planned: its seeds of each arm."""
    seeds = tuple(sorted(seeds))
    values = {seed: values[seed] for seed in seeds if seed in values}
    parts = {FIRST: seeds[: len(seeds) // 2], SECOND: seeds[len(seeds) // 2 :]}
    halves = {name: {seed: values[seed] for seed in part if seed in values} for name, part in parts.items()}
    runs = summarise(values, seeds)
    sds = (runs.sd, *sd_interval(runs.sd, runs.n)) if runs.n >= 2 else (NAN, NAN, NAN)
    alpha = rule.alpha / comparisons
    failed = tuple(seed for seed, value in values.items() if not math.isfinite(value))
    own = None if planned is None else _detect(max(2, planned), sds, alpha, rule.power)
    return NoiseFloor(
        arm=arm,
        metric=metric,
        rule=rule,
        seeds=seeds,
        halves=(summarise(halves[FIRST], parts[FIRST]), summarise(halves[SECOND], parts[SECOND])),
        comparison=compare_all(halves, [(FIRST, SECOND)], rule)[0],
        runs=runs,
        sd_low=sds[1],
        sd_high=sds[2],
        comparisons=comparisons,
        alpha=alpha,
        power=rule.power,
        detectable=tuple(_detect(n, sds, alpha, rule.power) for n in sorted({*SEEDS, own.n} if own else SEEDS)),
        planned=own,
        needed=_count_needed(rule.margin, sds, alpha, rule.power) if rule.margin > 0 and sds[0] > 0 else None,
        failed=failed,
        missing=tuple(seed for seed in seeds if seed not in values),
        changed=changed,
    )


def _detect(n: int, sds: tuple[float, float, float], alpha: float, power: float) -> Detectable:
    """sds: of a single run, and the ends of its interval."""
    if not sds[0] > 0:
        return Detectable(n, NAN, NAN, NAN, NAN)
    scale = math.sqrt(2 / n)
    sd, low, high = (minimum_detectable(s * scale, 2 * (n - 1), alpha=alpha, power=power) for s in sds)
    return Detectable(n, sd, low, high, minimum_detectable(sds[0] * scale, n - 1, alpha=alpha, power=power))


def _count_needed(effect: float, sds: tuple[float, float, float], alpha: float, power: float) -> SeedsToDetect:
    sd, low, high = (seeds_for_unpaired_difference(effect, sd=s, alpha=alpha, power=power) for s in sds)
    paired = seeds_for_difference(effect, sd=sds[0] * math.sqrt(2), alpha=alpha, power=power)
    return SeedsToDetect(effect, sd, low, high, paired)


def list_values(metrics: Mapping[int, Mapping[str, float]], metric: str) -> dict[int, float]:
    """seed -> value of the metric; NaN where a run has none."""
    return {seed: found.get(metric, NAN) for seed, found in metrics.items()}

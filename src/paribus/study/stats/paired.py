"""Arms and their comparison: what one arm measured, and its effect against another on the same seeds.

Arms with equal seeds share initialisation, data order and augmentation, so the difference is taken seed by seed. Where
too few seeds are shared, Welch's test is used and reported (`paired` is False). The choice depends on the seeds only,
never on the values: paired if at least two seeds are shared and they are at least half of the smaller arm.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paribus.core.errors import ConfigError
from paribus.study.stats.estimate import NAN, Estimate, Values, drop_failed, mean_and_sd, one_sample, welch
from paribus.study.stats.verdict import Judgement, Rule, judge_each


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm: n usable seeds, mean, sd and standard error of their values, and the seeds that have none."""

    n: int
    mean: float
    sd: float
    se: float
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """arm - baseline, in the metric's unit: positive is better only if higher is.

    seeds: the shared seeds that entered, and differences: one for each of them; both empty where paired is False.
    left_out: usable seeds of either arm that did not enter, for lack of a partner. failed: seeds listed by one of the
    two without a number.
    """

    arm: str
    baseline: str
    paired: bool
    estimate: Estimate
    judgement: Judgement
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    left_out: tuple[int, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The effect of sharing seeds, and how often the arm wins.

    correlation: of the two arms over the shared seeds. variance_ratio: var(difference) / (var(arm) + var(baseline));
    1 is what independent runs would give, and 0.5 means that pairing halves the seeds a claim needs.
    p_better: share of all (arm run, baseline run) pairs in which the arm is better, ties counting half: what a reader
    who runs each once should expect. p_better_paired: the same over runs that share a seed.
    """

    n: int
    correlation: float
    variance_ratio: float
    p_better: float
    p_better_paired: float


@dataclass(frozen=True, slots=True)
class SelectionBias:
    """How much an arm gains when its best evaluation is reported in place of its last, per seed; never negative."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    missing: tuple[int, ...]


def summarise(values: Values, seeds: Iterable[int] = ()) -> ArmSummary:
    """seeds: the planned ones. Missing is a seed, planned or listed, that has no finite value."""
    finished = drop_failed(values)
    mean, sd = mean_and_sd(list(finished.values()))
    missing = tuple(sorted({*seeds, *values} - finished.keys()))
    return ArmSummary(len(finished), mean, sd, sd / math.sqrt(len(finished)) if finished else NAN, missing)


def compare(arm: Values, baseline: Values, rule: Rule) -> Comparison:
    """A single comparison, a family of its own."""
    return compare_all({"arm": arm, "baseline": baseline}, [("arm", "baseline")], rule)[0]


def compare_all(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]], rule: Rule) -> tuple[Comparison, ...]:
    """All comparisons of a study, as pairs (arm, baseline): together they are the family that Holm adjusts for.

    Raises ConfigError where a pair names an unknown arm, or compares an arm with itself.
    """
    return compare_several([arms], pairs, [rule])[0]


def compare_several(
    metrics: Sequence[Mapping[str, Values]], pairs: Sequence[tuple[str, str]], rules: Sequence[Rule]
) -> tuple[tuple[Comparison, ...], ...]:
    """All comparisons on several metrics, each with a rule of its own: comparisons × metrics are one family. metrics:
    arm -> values of each; all rules have one alpha. Returns the comparisons of each metric. Raises ConfigError."""
    for arms in metrics:
        _check_pairs(arms, pairs)
    finished = [{name: drop_failed(values) for name, values in arms.items()} for arms in metrics]
    shared = [[shared_seeds(done[a], done[b]) for a, b in pairs] for done in finished]
    estimates = [
        [_estimate(done[a], done[b], seeds, rule) for (a, b), seeds in zip(pairs, found, strict=True)]
        for done, found, rule in zip(finished, shared, rules, strict=True)
    ]
    family = [rule for rule in rules for _ in pairs]
    judgements = iter(judge_each([estimate for found in estimates for estimate in found], family))
    return tuple(
        tuple(
            _build_comparison(pair, arms, done, seeds, estimate, next(judgements))
            for pair, seeds, estimate in zip(pairs, found, estimated, strict=True)
        )
        for arms, done, found, estimated in zip(metrics, finished, shared, estimates, strict=True)
    )


def _check_pairs(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]) -> None:
    for pair in pairs:
        for name in pair:
            if name not in arms:
                raise ConfigError(f"comparison {pair[0]} against {pair[1]}: no arm {name}; there are {', '.join(arms)}")
        if pair[0] == pair[1]:
            raise ConfigError(f"comparison {pair[0]} against {pair[1]}: an arm cannot be compared with itself")
    if len(set(pairs)) < len(pairs):
        raise ConfigError("comparisons: one is listed twice, which would count it twice in the family")


def shared_seeds(arm: Values, baseline: Values) -> tuple[int, ...] | None:
    """The seeds on which two arms are compared pair by pair; None where too few are shared, and Welch is used."""
    shared = tuple(sorted(arm.keys() & baseline.keys()))
    smaller = min(len(arm), len(baseline))
    enough = len(shared) >= 2 and 2 * len(shared) >= smaller
    return shared if enough or len(shared) == smaller else None


def _estimate(arm: Values, baseline: Values, seeds: tuple[int, ...] | None, rule: Rule) -> Estimate:
    if seeds is None:
        return welch(list(arm.values()), list(baseline.values()), margin=rule.margin, alpha=rule.alpha)
    scale = max((max(abs(arm[s]), abs(baseline[s])) for s in seeds), default=0.0)
    return one_sample([arm[s] - baseline[s] for s in seeds], margin=rule.margin, alpha=rule.alpha, scale=scale)


def _build_comparison(
    pair: tuple[str, str],
    arms: Mapping[str, Values],
    finished: Mapping[str, Values],
    seeds: tuple[int, ...] | None,
    estimate: Estimate,
    judgement: Judgement,
) -> Comparison:
    a, b = (finished[name] for name in pair)
    listed = {*arms[pair[0]], *arms[pair[1]]}
    used = {*a, *b} if seeds is None else set(seeds)
    return Comparison(
        *pair,
        paired=seeds is not None,
        estimate=estimate,
        judgement=judgement,
        seeds=seeds or (),
        differences=tuple(a[s] - b[s] for s in seeds or ()),
        left_out=tuple(sorted({*a, *b} - used)),
        failed=tuple(sorted(s for s in listed if any(s in arms[n] and s not in finished[n] for n in pair))),
    )


def pairing(arm: Values, baseline: Values, *, higher_is_better: bool = True) -> Pairing:
    """See `Pairing`; a number that is undefined for two arms (no runs, no variance) is NaN."""
    a, b = drop_failed(arm), drop_failed(baseline)
    seeds = sorted(a.keys() & b.keys())
    xs, ys = [a[s] for s in seeds], [b[s] for s in seeds]
    differences = [x - y for x, y in zip(xs, ys, strict=True)]
    (mean_x, sd_x), (mean_y, sd_y), (_, sd_d) = mean_and_sd(xs), mean_and_sd(ys), mean_and_sd(differences)
    correlation, ratio = NAN, NAN
    if len(seeds) >= 2 and sd_x > 0 and sd_y > 0:
        products = math.fsum([(x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)])
        correlation = max(-1.0, min(1.0, products / (len(seeds) - 1) / sd_x / sd_y))
    if len(seeds) >= 2 and (sd_x > 0 or sd_y > 0):
        ratio = sd_d * sd_d / (sd_x * sd_x + sd_y * sd_y)
    sign = 1 if higher_is_better else -1
    wins = [(d * sign > 0) + (d == 0) / 2 for d in differences]
    return Pairing(
        len(seeds),
        correlation,
        ratio,
        _win_rate(list(a.values()), sorted(b.values()), higher_is_better),
        sum(wins) / len(wins) if wins else NAN,
    )


def _win_rate(a: Sequence[float], b: Sequence[float], higher_is_better: bool) -> float:
    """Share of a × b in which a is better; b ascending."""
    if not a or not b:
        return NAN
    halves = sum(bisect_left(b, v) + bisect_right(b, v) for v in a)  # twice (those below, and half of the equal ones)
    everything = 2 * len(a) * len(b)
    return (halves if higher_is_better else everything - halves) / everything


def selection_bias(
    curves: Mapping[int, Sequence[float]], *, higher_is_better: bool = True, alpha: float = 0.05
) -> SelectionBias:
    """Best evaluation minus the last, signed so that it is an improvement; curves: seed -> all evaluations, in order.

    This is what choosing the epoch on the evaluation split adds to a headline. A seed without a finite last
    evaluation is missing. The interval is Student's, cut at 0, below which the truth cannot lie.
    """
    sign = 1 if higher_is_better else -1
    finished = {s: [sign * v for v in c] for s, c in sorted(curves.items()) if len(c) > 0 and math.isfinite(c[-1])}
    gains = [max(v for v in curve if math.isfinite(v)) - curve[-1] for curve in finished.values()]
    scale = max((abs(curve[-1]) for curve in finished.values()), default=0.0)
    e = one_sample(gains, alpha=alpha, scale=scale)
    low = e.low if math.isnan(e.low) else max(0.0, e.low)
    return SelectionBias(e.n, e.mean, e.sd, low, e.high, tuple(sorted(curves.keys() - finished.keys())))

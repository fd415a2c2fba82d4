"""What must hold for any numbers: swapping arms negates, units and labels do not matter, adjustment never helps."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.study.stats import Comparison, Rule, Verdict, compare, compare_all, holm, pairing
from paribus.study.stats.estimate import one_sample, welch
from paribus.study.stats.power import (
    minimum_detectable,
    power_of_difference,
    power_of_equivalence,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_to_settle,
)
from paribus.study.stats.resampling import bca_interval, make_generator, robustness, sign_flip_p
from paribus.study.stats.time_to_target import Arrival, compare_times, sign_test_p

value = st.integers(-1000, 1000).map(lambda k: k / 64)  # exact in binary, so that ties and flat arms are common
values = st.lists(value, min_size=0, max_size=9)
cell = st.one_of(value, st.sampled_from([math.nan, math.inf, -math.inf]))
arms = st.dictionaries(st.integers(0, 9), cell, max_size=9)
rules = st.builds(Rule, st.sampled_from([0.0, 0.5, 4.0]), st.booleans(), st.sampled_from([0.05, 0.2]))
MIRROR = {
    Verdict.BETTER: Verdict.WORSE,
    Verdict.WORSE: Verdict.BETTER,
    Verdict.BETTER_WITHIN: Verdict.WORSE_WITHIN,
    Verdict.WORSE_WITHIN: Verdict.BETTER_WITHIN,
}
FIXED = settings(max_examples=150, deadline=None)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def numbers(c: Comparison) -> list[float]:
    e, j = c.estimate, c.judgement
    return [e.mean, e.sd, e.low, e.high, e.p_zero, e.p_beyond, j.p_zero, j.p_beyond, j.minimum_detectable]


@FIXED
@given(arms, arms, rules)
def test_swapping_the_arms_negates(a: dict[int, float], b: dict[int, float], rule: Rule) -> None:
    there, back = compare(a, b, rule), compare(b, a, rule)
    e, f = there.estimate, back.estimate
    assert same(e.mean, -f.mean)
    assert same(e.low, -f.high)
    assert all(same(x, y) for x, y in ((e.p_zero, f.p_zero), (e.p_beyond, f.p_beyond), (e.sd, f.sd)))
    assert back.judgement.verdict is MIRROR.get(there.judgement.verdict, there.judgement.verdict)
    p, q = pairing(a, b), pairing(b, a)
    assert math.isnan(p.p_better) or p.p_better + q.p_better == pytest.approx(1)
    assert math.isnan(p.p_better_paired) or p.p_better_paired + q.p_better_paired == 1


@FIXED
@given(arms, arms, rules)
def test_the_other_direction_of_the_metric_swaps_better_and_worse(
    a: dict[int, float], b: dict[int, float], rule: Rule
) -> None:
    there, other = compare(a, b, rule), compare(a, b, replace(rule, higher_is_better=not rule.higher_is_better))
    assert other.judgement.verdict is MIRROR.get(there.judgement.verdict, there.judgement.verdict)
    assert all(same(x, y) for x, y in zip(numbers(there), numbers(other), strict=True))


@FIXED
@given(arms, arms, rules, st.randoms(use_true_random=False))
def test_the_names_and_the_order_of_seeds_do_not_matter(
    a: dict[int, float], b: dict[int, float], rule: Rule, random: Random
) -> None:
    labels = list(range(10))
    random.shuffle(labels)
    renamed = compare({labels[s]: a[s] for s in a}, {labels[s]: b[s] for s in reversed(b)}, rule)
    there = compare(a, b, rule)
    assert all(same(x, y) for x, y in zip(numbers(there), numbers(renamed), strict=True))
    assert there.judgement.verdict is renamed.judgement.verdict
    assert {labels[s] for s in there.seeds} == set(renamed.seeds)
    assert same(robustness(there, "x").sign_flip_p, robustness(renamed, "x").sign_flip_p)


@FIXED
@given(values, st.sampled_from([0.25, 2.0, 64.0]), st.integers(-8, 8), rules)
def test_units_do_not_matter(d: list[float], unit: float, offset: int, rule: Rule) -> None:
    """Powers of two as units, so that the arithmetic is the same: any change would be one of meaning."""
    there = compare(dict(enumerate(d)), dict.fromkeys(range(len(d)), 0.0), rule)
    scaled_rule = replace(rule, margin=rule.margin * unit)
    a = {s: (v + offset) * unit for s, v in enumerate(d)}
    scaled = compare(a, dict.fromkeys(range(len(d)), offset * unit), scaled_rule)
    assert scaled.judgement.verdict is there.judgement.verdict
    assert scaled.judgement.more_seeds == there.judgement.more_seeds
    for x, y in zip(numbers(there)[:4], numbers(scaled)[:4], strict=True):
        assert same(x * unit, y)
    assert all(same(x, y) for x, y in zip(numbers(there)[4:8], numbers(scaled)[4:8], strict=True))


@FIXED
@given(arms, arms, rules)
def test_every_answer_is_in_its_range(a: dict[int, float], b: dict[int, float], rule: Rule) -> None:
    c = compare(a, b, rule)
    e, j = c.estimate, c.judgement
    for p in (e.p_zero, e.p_beyond, j.p_zero, j.p_beyond):
        assert math.isnan(p) or 0 <= p <= 1
    assert math.isnan(e.low) or e.low <= e.mean <= e.high
    assert (j.verdict is Verdict.UNTESTABLE) == (e.n < 2)
    assert (j.more_seeds is not None) == (j.verdict is Verdict.UNDECIDED and rule.margin > 0)
    assert j.more_seeds is None or j.more_seeds >= 1
    assert not set(c.failed) & set(c.seeds)
    r = pairing(a, b)
    assert all(math.isnan(v) or 0 <= v <= 1 for v in (r.p_better, r.p_better_paired))
    assert math.isnan(r.correlation) or -1 <= r.correlation <= 1


@FIXED
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=8))
def test_holm_is_between_raw_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    known = sorted((x, y) for x, y in zip(p, adjusted, strict=True) if not math.isnan(x))
    assert all(x <= y <= min(1, len(p) * x) or y == 1 for x, y in known)
    assert [y for _, y in known] == sorted(y for _, y in known)
    assert [math.isnan(x) for x in p] == [math.isnan(y) for y in adjusted]


@FIXED
@given(st.lists(arms, min_size=1, max_size=4), rules)
def test_a_larger_family_never_makes_a_claim_easier(others: list[dict[int, float]], rule: Rule) -> None:
    names = {f"arm {k}": values for k, values in enumerate(others)}
    baseline = {s: float(s % 3) for s in range(10)}
    together = compare_all({**names, "base": baseline}, [(name, "base") for name in names], rule)
    for c, values in zip(together, others, strict=True):
        alone = compare(values, baseline, rule)
        assert alone.estimate == c.estimate or math.isnan(alone.estimate.sd) or math.isnan(alone.estimate.low)
        assert not alone.judgement.p_zero > c.judgement.p_zero
        assert not alone.judgement.p_beyond > c.judgement.p_beyond


@FIXED
@given(st.lists(value, min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_resampling_knows_neither_order_nor_orientation(d: list[float], random: Random) -> None:
    shuffled = list(d)
    random.shuffle(shuffled)
    p = sign_flip_p(d)
    assert 2.0 ** (1 - len(d)) <= p <= 1
    assert sign_flip_p(shuffled) == sign_flip_p([-v for v in d]) == p
    low, high = bca_interval(d, make_generator("x"), resamples=200)
    again = bca_interval(shuffled, make_generator("x"), resamples=200)
    mirrored = bca_interval([-v for v in d], make_generator("x"), resamples=200)
    assert all(same(x, y) for x, y in zip((low, high, low), (*again, -mirrored[1]), strict=True))
    assert math.isnan(low) or min(d) <= low <= high <= max(d)


@FIXED
@given(st.floats(0.3, 5), st.sampled_from([0.05, 0.01]), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_seeds_asked_for_are_enough_and_one_less_is_not(ratio: float, alpha: float, power: float) -> None:
    n = seeds_for_difference(ratio, sd=1.0, alpha=alpha, power=power)
    assert power_of_difference(ratio, n, sd=1.0, alpha=alpha) >= power
    assert n == 2 or power_of_difference(ratio, n - 1, sd=1.0, alpha=alpha) < power
    assert minimum_detectable(1 / math.sqrt(n), n - 1, alpha=alpha, power=power) <= ratio * (1 + 1e-6)
    m = seeds_for_equivalence(ratio, sd=1.0, alpha=alpha, power=power)
    assert power_of_equivalence(ratio, m, sd=1.0, alpha=alpha) >= power
    assert m == 2 or power_of_equivalence(ratio, m - 1, sd=1.0, alpha=alpha) < power


@FIXED
@given(st.lists(value, min_size=2, max_size=9), st.sampled_from([0.5, 4.0]))
def test_with_the_seeds_that_settle_no_outcome_is_undecided(d: list[float], margin: float) -> None:
    """A sample drawn to just that n, by repeating it, keeps about its sd: whatever its mean, there is a verdict."""
    e = one_sample(d, margin=margin)
    if not e.spread:
        return
    n = seeds_to_settle(margin, sd=e.sd * 1.5)  # repeating changes sd by at most sqrt(2), upwards never beyond 1.5
    many = [d[k % len(d)] for k in range(max(n, 2 * len(d)))]
    c = compare(dict(enumerate(many)), dict.fromkeys(range(len(many)), 0.0), Rule(margin))
    assert c.judgement.verdict is not Verdict.UNDECIDED


@FIXED
@given(st.lists(value, min_size=2, max_size=6), st.lists(value, min_size=2, max_size=6))
def test_welch_is_between_the_smaller_and_the_pooled_degrees_of_freedom(a: list[float], b: list[float]) -> None:
    e = welch(a, b)
    slack = 1e-9
    assert min(len(a), len(b)) - 1 - slack <= e.df <= len(a) + len(b) - 2 + slack


arrival = st.builds(Arrival, st.integers(1, 6).map(float), st.booleans())
arrivals = st.dictionaries(st.integers(0, 7), arrival, max_size=8)


@FIXED
@given(arrivals, arrivals)
def test_times_swap_too_and_every_shared_seed_is_counted_once(a: dict[int, Arrival], b: dict[int, Arrival]) -> None:
    names = {"a": a, "b": b}
    there, back = compare_times(names, [("a", "b")], Rule(1.0))[0], compare_times(names, [("b", "a")], Rule(1.0))[0]
    assert (there.sooner, there.later, there.tied, there.unknown) == (back.later, back.sooner, back.tied, back.unknown)
    assert same(there.sign_p, back.sign_p)
    assert there.sooner + there.later + there.tied + there.unknown == len(there.comparison.seeds)
    assert same(there.comparison.estimate.mean, -back.comparison.estimate.mean)


@FIXED
@given(st.integers(0, 30), st.integers(0, 30))
def test_the_sign_test_is_symmetric_and_a_probability(a: int, b: int) -> None:
    assert 0 < sign_test_p(a, b) == sign_test_p(b, a) <= 1

"""The statistics where data are thin, missing or flat, and the words they end in: every case has a defined answer."""

import json
import math
from dataclasses import replace

import pytest

from paribus.core.errors import ConfigError
from paribus.study.stats import (
    Arrival,
    Comparison,
    Judgement,
    Rule,
    Values,
    Verdict,
    common_horizon,
    compare,
    compare_all,
    compare_times,
    factorial_effects,
    find_arrival,
    holm,
    judge,
    pairing,
    selection_bias,
    summarise,
    summarise_arrivals,
    to_plain,
)
from paribus.study.stats.estimate import Estimate, one_sample, welch
from paribus.study.stats.paired import shared_seeds
from paribus.study.stats.power import (
    minimum_detectable,
    sd_interval,
    seeds_for_difference,
    seeds_for_equivalence,
    seeds_to_decide,
    seeds_to_settle,
    seeds_without_spread,
)
from paribus.study.stats.resampling import bca_interval, make_generator, robustness, sign_flip_floor, sign_flip_p

NAN, INF = math.nan, math.inf
POINT = Rule(margin=0.01)


def arm(*values: float, first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, first))


def against_zero(*differences: float, rule: Rule = POINT) -> Comparison:
    """A comparison with exactly these differences."""
    return compare(arm(*differences), arm(*[0.0] * len(differences)), rule)


# one arm


def test_an_arm_without_runs_with_one_and_with_failures() -> None:
    nothing = summarise({}, seeds=range(2))
    assert (nothing.n, nothing.missing) == (0, (0, 1))
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.se)
    one = summarise({4: 0.7})
    assert (one.n, one.mean, one.missing) == (1, 0.7, ())
    assert math.isnan(one.sd)
    some = summarise({0: 1.0, 1: NAN, 2: 3.0, 3: INF, 4: -INF}, seeds=range(6))
    assert (some.n, some.mean, some.sd, some.se) == (2, 2.0, math.sqrt(2), 1.0)
    assert some.missing == (1, 3, 4, 5)


# verdicts


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.021, 0.019, 0.020, 0.022, 0.018), Verdict.BETTER),
        ((-0.021, -0.019, -0.020, -0.022, -0.018), Verdict.WORSE),
        ((0.003, 0.004, 0.005, 0.003, 0.004), Verdict.BETTER_WITHIN),
        ((-0.003, -0.004, -0.005, -0.003, -0.004), Verdict.WORSE_WITHIN),
        ((0.001, -0.001, 0.0005, -0.0005, 0.001), Verdict.EQUIVALENT),
        ((0.04, -0.01, 0.02, -0.02, 0.03), Verdict.UNDECIDED),
        ((0.02,), Verdict.UNTESTABLE),
        ((), Verdict.UNTESTABLE),
    ],
)
def test_each_verdict_and_its_mirror_where_lower_is_better(differences: tuple[float, ...], verdict: Verdict) -> None:
    assert against_zero(*differences).judgement.verdict is verdict
    mirrored = against_zero(*[-d for d in differences], rule=replace(POINT, higher_is_better=False))
    assert mirrored.judgement.verdict is verdict


def test_significance_is_not_size() -> None:
    """Just above 0 beyond doubt, but not shown to be within the margin: better, without the addition."""
    assert against_zero(0.0098, 0.0101, 0.0099, 0.0102, 0.0100).judgement.verdict is Verdict.BETTER


def test_without_a_margin_nothing_is_equivalent_and_no_number_of_seeds_is_promised() -> None:
    c = against_zero(0.001, -0.001, 0.0005, rule=Rule())
    assert c.judgement.verdict is Verdict.UNDECIDED
    assert c.judgement.more_seeds is None
    assert str(c.judgement) == "undecided"
    assert math.isnan(c.estimate.p_beyond)
    assert math.isnan(c.judgement.p_beyond)


@pytest.mark.parametrize(
    "wrong",
    [{"margin": -0.1}, {"margin": NAN}, {"margin": INF}, {"alpha": 0.0}, {"alpha": 1.0}, {"power": NAN}, {"power": 2}],
)
def test_a_rule_outside_its_ranges_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: found"):
        Rule(**wrong)  # pyright: ignore[reportArgumentType]


def test_about_k_more_seeds_is_what_deciding_takes() -> None:
    c = against_zero(0.04, -0.01, 0.02, -0.02, 0.03)
    needed = seeds_to_decide(0.01, sd=c.estimate.sd)
    assert c.judgement.more_seeds == needed - 5
    assert str(c.judgement) == f"undecided (about {needed - 5} more seeds)"
    in_a_family = compare_all(
        {"a": arm(0.04, -0.01, 0.02, -0.02, 0.03), "b": arm(*[0.0] * 5), "c": {}}, [("a", "b"), ("c", "b")], POINT
    )
    assert in_a_family[0].judgement.more_seeds == seeds_to_decide(0.01, sd=c.estimate.sd, alpha=0.025) - 5


def test_past_that_it_is_what_leaves_no_outcome_undecided() -> None:
    estimate = Estimate(40, 0.0061, 0.0195, 0.0195 / math.sqrt(40), 39, 0.0, 0.0, p_zero=0.056, p_beyond=0.106)
    (judgement,) = judge([estimate], POINT)
    assert seeds_to_decide(0.01, sd=0.0195) <= 40
    assert judgement.more_seeds == seeds_to_settle(0.01, sd=0.0195) - 40 > 0
    assert str(Judgement(Verdict.UNDECIDED, 0.1, 0.1, 1, 0.1)) == "undecided (about 1 more seed)"


# no spread


def test_equal_differences_are_believed_no_sooner_than_the_exact_test_allows() -> None:
    for n in (2, 5):
        c = against_zero(*[0.25] * n)
        assert not c.estimate.spread
        assert c.estimate.p_zero == 2.0 ** (1 - n)
        assert math.isnan(c.estimate.low)
        assert c.judgement.verdict is Verdict.UNDECIDED
        assert c.judgement.more_seeds == seeds_without_spread() - n == 6 - n
    six = against_zero(*[0.25] * 6)
    assert six.judgement.verdict is Verdict.BETTER
    assert (six.estimate.low, six.estimate.high) == (0.25, 0.25)
    assert six.estimate.p_zero == sign_flip_p(six.differences)
    assert math.isnan(six.judgement.minimum_detectable)
    assert math.isnan(six.estimate.effect_size)


def test_identical_arms_are_equivalent_from_five_seeds() -> None:
    four, five = (compare(arm(*range(n)), arm(*range(n)), POINT) for n in (4, 5))
    assert four.judgement.verdict is Verdict.UNDECIDED
    assert five.judgement.verdict is Verdict.EQUIVALENT
    assert (five.estimate.mean, five.estimate.p_zero, five.estimate.p_beyond) == (0.0, 1.0, 2.0**-5)
    assert compare(arm(*range(5)), arm(*range(5)), Rule()).judgement.verdict is Verdict.UNDECIDED


def test_differences_of_exactly_the_margin_are_never_within_it() -> None:
    """Whichever way their subtraction happens to round: of some of these six the mean comes out below the margin."""
    below = 0
    for k in range(200, 260):
        arm, base = ({s: (k + s + more) / 1000 for s in range(6)} for more in (5, 0))
        below += sum(arm[s] - base[s] for s in range(6)) / 6 < 0.005
        assert compare(arm, base, Rule(margin=0.005)).judgement.verdict is Verdict.BETTER
    assert below, "negative control"


def test_rounding_is_no_spread() -> None:
    a, b = arm(0.91, 0.92, 0.93, 0.94), arm(0.90, 0.91, 0.92, 0.93)
    differences = {a[s] - b[s] for s in a}
    assert len(differences) > 1, "the case is there to be off by rounding"
    assert not compare(a, b, POINT).estimate.spread
    assert compare(a, {**b, 0: 0.9001}, POINT).estimate.spread
    subnormal = one_sample([1e-200, 3e-200])  # the squares underflow
    assert not subnormal.spread


def test_flat_arms_without_shared_seeds() -> None:
    flat = welch([0.5] * 3, [0.4] * 3, margin=0.2)
    assert (flat.p_zero, flat.p_beyond) == (2 / 20, 1 / 20)
    one_flat = welch([0.5, 0.5, 0.5], [0.4, 0.41, 0.42])
    assert one_flat.spread
    assert one_flat.df == pytest.approx(2)


# pairs


def test_a_failed_cell_takes_its_pair_along_and_is_named() -> None:
    c = compare({0: 1.0, 1: NAN, 2: 3.0, 3: 4.5}, {0: 0.0, 1: 1.0, 2: INF, 3: 3.0, 7: 9.0}, POINT)
    assert c.paired
    assert (c.seeds, c.differences) == ((0, 3), (1.0, 1.5))
    assert (c.left_out, c.failed) == ((1, 2, 7), (1, 2))


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        (range(5), range(5), (0, 1, 2, 3, 4)),
        (range(3), range(20), (0, 1, 2)),
        (range(4), range(2, 12), (2, 3)),  # half of the smaller arm
        (range(5), range(3, 12), None),  # less than half
        (range(2), range(1, 3), None),  # one shared seed has no spread
        (range(3), range(3, 6), None),
        (range(1), range(9), (0,)),
        ((), range(9), ()),
    ],
)
def test_which_seeds_are_compared_depends_on_the_seeds_alone(
    a: range, b: range, shared: tuple[int, ...] | None
) -> None:
    assert shared_seeds(dict.fromkeys(a, 0.0), dict.fromkeys(b, 0.0)) == shared
    assert shared_seeds(dict.fromkeys(b, 1.0), dict.fromkeys(a, 0.0)) == shared


def test_without_shared_seeds_it_is_welch_and_says_so() -> None:
    c = compare(arm(0.5, 0.6, 0.7), arm(0.1, 0.2, 0.3, first=10), POINT)
    assert not c.paired
    assert (c.seeds, c.differences, c.left_out) == ((), (), ())
    assert c.judgement.verdict is Verdict.BETTER
    assert math.isnan(robustness(c, "study").sign_flip_p)
    assert compare(arm(0.5), arm(0.1, 0.2, first=10), POINT).judgement.verdict is Verdict.UNTESTABLE


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("a", "x")], "no arm x; there are a, b"),
        ([("a", "a")], "cannot be compared with itself"),
        ([("a", "b"), ("a", "b")], "listed twice"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(pairs: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compare_all({"a": {}, "b": {}}, pairs, POINT)


def test_no_comparison_at_all_is_an_empty_study() -> None:
    assert compare_all({"a": arm(1, 2)}, [], POINT) == ()


def test_pairing_of_flat_and_of_absent_arms() -> None:
    flat = pairing(arm(0.5, 0.5), arm(0.4, 0.6))
    assert math.isnan(flat.correlation)
    assert (flat.variance_ratio, flat.p_better, flat.p_better_paired) == (1.0, 0.5, 0.5)
    assert all(math.isnan(v) for v in (pairing({}, arm(1)).p_better, pairing({}, arm(1)).p_better_paired))
    both_flat = pairing(arm(1, 1), arm(1, 1))
    assert math.isnan(both_flat.variance_ratio)
    assert (both_flat.p_better, both_flat.p_better_paired) == (0.5, 0.5)
    same = pairing(arm(1, 2, 3), arm(1.5, 2.5, 3.5), higher_is_better=False)
    assert (same.variance_ratio, same.p_better_paired, same.p_better) == (0.0, 1.0, 6 / 9)
    assert same.correlation == pytest.approx(1, abs=1e-12)


# families


def test_holm_keeps_the_family_whole_when_a_test_is_missing() -> None:
    assert holm([]) == []
    assert holm([0.04]) == [0.04]
    adjusted = holm([0.02, NAN, 0.01])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.03)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.01, 0.01, 0.01]) == [0.03] * 3


def test_the_two_kinds_of_claim_are_two_families() -> None:
    clear = (0.021, 0.019, 0.020, 0.022, 0.018)
    same = (0.001, -0.001, 0.0005, -0.0005, 0.001)
    results = compare_all(
        {"a": arm(*clear), "b": arm(*same), "c": arm(*same[::-1]), "none": arm(*[0.0] * 5)},
        [("a", "none"), ("b", "none"), ("c", "none")],
        POINT,
    )
    assert [c.judgement.verdict for c in results] == [Verdict.BETTER, Verdict.EQUIVALENT, Verdict.EQUIVALENT]
    assert results[0].judgement.p_zero == pytest.approx(3 * results[0].estimate.p_zero)
    assert results[1].judgement.p_beyond == pytest.approx(3 * results[1].estimate.p_beyond)


# resampling


def test_the_sign_flip_test_and_its_floor() -> None:
    assert [sign_flip_floor(n) for n in (1, 5, 6)] == [1.0, 0.0625, 0.03125]
    assert sign_flip_p([3.0]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([1.0] * 5) == 0.0625
    assert sign_flip_p([0.1 + 0.2, -0.3]) == 1.0  # ties but for rounding
    assert sign_flip_p([1.0] * 30, make_generator("a")) == 1 / 100_001  # the observed flip is counted: never 0
    rows = robustness(against_zero(*[0.01 * k for k in range(1, 6)]), "study")
    assert (rows.sign_flip_p, rows.sign_flip_exact, rows.sign_flip_floor) == (0.0625, True, 0.0625)
    assert math.isnan(rows.bca_low)


def test_bca_comes_from_twenty_seeds_on_and_random_numbers_belong_to_the_names() -> None:
    values = [math.sin(k) + 0.2 for k in range(25)]
    c = against_zero(*values)
    rows = robustness(c, "study")
    assert rows.bca_low < c.estimate.mean < rows.bca_high
    assert not rows.sign_flip_exact
    assert rows == robustness(c, "study")
    assert rows != robustness(c, "another study")
    assert math.isnan(robustness(against_zero(*values[:19]), "study").bca_low)
    assert not math.isnan(robustness(against_zero(*values[:20]), "study").bca_low)
    assert math.isnan(robustness(against_zero(*[0.1] * 20), "study").bca_low)
    assert bca_interval([1.0] * 20, make_generator("a")) == pytest.approx((NAN, NAN), nan_ok=True)


def test_huge_n_is_quick_and_needs_no_resampling() -> None:
    n = 20_000
    c = against_zero(*[math.sin(k) for k in range(n)])
    assert c.judgement.verdict is Verdict.EQUIVALENT  # a standard error of 0.005 against a margin of 0.01
    assert c.estimate.df == n - 1
    assert math.isnan(robustness(c, "study").sign_flip_p)
    assert pairing(arm(*range(n)), arm(*range(n))).p_better == 0.5


# power


def test_power_at_the_edges() -> None:
    assert seeds_for_difference(0.5, sd=0.0) == seeds_for_equivalence(0.5, sd=0.0) == 2
    assert seeds_for_difference(1e-4, sd=1.0) == pytest.approx(7.849e8, rel=1e-3)
    assert seeds_for_difference(1e-300, sd=1.0) > 10**18
    assert seeds_to_settle(0.5, sd=0.0) == 2
    for effect, sd in ((0.0, 1.0), (-1.0, 1.0), (NAN, 1.0), (1.0, NAN), (1.0, INF), (1.0, -1.0)):
        with pytest.raises(ValueError, match="needs an effect"):
            seeds_for_difference(effect, sd=sd)
    with pytest.raises(ConfigError, match="alpha"):
        seeds_for_equivalence(1.0, sd=1.0, alpha=0.0)
    with pytest.raises(ConfigError, match="power"):
        minimum_detectable(1.0, 5, power=1.0)
    assert sd_interval(1.0, 1) == (0.0, INF)


def test_three_seeds_resolve_a_point_and_little_less() -> None:
    """The rule of thumb this package exists for: three pairs, sd of differences 0.3 points, two-sided 5 %."""
    assert 0.6 < minimum_detectable(0.3 / math.sqrt(3), 2) < 1.0


# the best epoch


def test_the_gain_of_choosing_the_epoch_is_never_negative() -> None:
    bias = selection_bias({0: [0.5, 0.7, 0.6], 1: [0.5, 0.6, 0.65], 2: [NAN, 0.9, 0.7], 3: [0.5, NAN], 4: []})
    assert (bias.n, bias.missing) == (3, (3, 4))
    assert bias.mean == pytest.approx(0.1)
    assert (bias.low, bias.high) == (0.0, pytest.approx(0.1 + 4.302653 * 0.1 / math.sqrt(3)))
    losses = selection_bias({0: [2.0, 1.0, 1.5], 1: [2.0, 1.0, 1.1]}, higher_is_better=False)
    assert losses.mean == pytest.approx(0.3)
    assert math.isnan(selection_bias({0: [0.1, 0.2]}).low)


# factorial


def cells(seeds: int = 4) -> dict[frozenset[str], dict[int, float]]:
    """10 + 2 a + 3 b - 1.5 a b, plus what the seed adds to every arm."""
    return {
        frozenset(on): {s: 10 + s + 2 * ("a" in on) + 3 * ("b" in on) - 1.5 * (len(on) == 2) for s in range(seeds)}
        for on in ((), ("a",), ("b",), ("a", "b"))
    }


def test_effects_of_a_known_model() -> None:
    effects = factorial_effects(["a", "b"], cells(), Rule(margin=0.5))
    assert [e.factors for e in effects] == [("a",), ("b",), ("a", "b")]
    assert [e.estimate.mean for e in effects] == [2 - 0.75, 3 - 0.75, -1.5]
    assert all(not e.estimate.spread for e in effects)
    assert all(e.judgement.p_zero == 3 * 2.0**-3 for e in effects)


def test_a_seed_with_a_failed_cell_is_left_out_of_all_contrasts_and_named() -> None:
    arms = cells(8)
    arms[frozenset("a")][2] = NAN
    del arms[frozenset("ab")][5]
    effects = factorial_effects(["a", "b"], arms, Rule())
    assert all(e.seeds == (0, 1, 3, 4, 6, 7) and e.left_out == (2, 5) for e in effects)
    assert [e.estimate.mean for e in effects] == [2 - 0.75, 3 - 0.75, -1.5]


def test_one_factor_is_a_comparison() -> None:
    on, off = arm(0.74, 0.75, 0.77), arm(0.73, 0.70, 0.72)
    (effect,) = factorial_effects(["a"], {frozenset(): off, frozenset("a"): on}, POINT)
    assert effect.estimate == compare(on, off, POINT).estimate


def test_a_factorial_study_is_whole() -> None:
    arms: dict[frozenset[str], Values] = {**cells()}
    del arms[frozenset("ab")], arms[frozenset()]
    with pytest.raises(ConfigError, match=r"all 4 combinations; no arm has \(none on\), a\+b"):
        factorial_effects(["a", "b"], arms, POINT)
    with pytest.raises(ConfigError, match="unknown combination: b, a"):
        factorial_effects(["a"], cells(), POINT)
    with pytest.raises(ConfigError, match="different names"):
        factorial_effects(["a", "a"], cells(), POINT)


# time to a target


def test_the_first_evaluation_that_reaches_the_target() -> None:
    assert find_arrival([1, 2, 3], [0.5, 0.7, 0.6], 0.6, higher_is_better=True) == Arrival(2, True)
    assert find_arrival([1, 2], [0.5, NAN], 0.6, higher_is_better=True) == Arrival(2, False)
    assert find_arrival([1, 2], [3.0, 0.5], 0.5, higher_is_better=False) == Arrival(2, True)
    assert math.isnan(find_arrival([], [], 0.5, higher_is_better=True).time)


def test_runs_that_never_arrive_count_as_the_horizon_and_not_as_missing() -> None:
    slow = {s: Arrival(10.0, False) if s % 2 else Arrival(8.0 + s / 10, True) for s in range(8)}
    fast = {s: Arrival(4.0 + s / 10, True) for s in range(8)} | {8: Arrival(NAN, False)}
    (c,) = compare_times({"fast": fast, "slow": slow}, [("fast", "slow")], Rule(margin=1.0))
    assert c.horizon == common_horizon({"fast": fast, "slow": slow}) == 10.0
    assert (c.sooner, c.later, c.tied, c.unknown) == (8, 0, 0, 0)
    assert c.sign_p == 2.0**-7
    assert c.comparison.judgement.verdict is Verdict.BETTER
    assert c.comparison.failed == (8,)
    summary = summarise_arrivals(slow, c.horizon)
    assert (summary.n, summary.reached, summary.median) == (8, 4, 8.6)
    assert summary.restricted_mean == pytest.approx((4 * 10 + 8.0 + 8.2 + 8.4 + 8.6) / 8)
    assert summarise_arrivals(fast, c.horizon).missing == (8,)


def test_dropping_them_would_have_turned_the_result_round() -> None:
    """The negative control: one arm arrives rarely but then early; among those that arrive it looks faster."""
    rare = {s: Arrival(3.0 + s / 100, True) if s < 2 else Arrival(20.0, False) for s in range(8)}
    steady = {s: Arrival(9.0 + s / 10, True) for s in range(8)}
    (honest,) = compare_times({"rare": rare, "steady": steady}, [("rare", "steady")], Rule())
    dropped = compare({s: a.time for s, a in rare.items() if a.reached}, {s: a.time for s, a in steady.items()}, Rule())
    assert honest.comparison.estimate.mean > 0 > dropped.estimate.mean


def test_what_is_not_known_is_not_counted() -> None:
    a = {0: Arrival(5.0, True), 1: Arrival(3.0, False), 2: Arrival(9.0, False), 3: Arrival(4.0, True)}
    b = {0: Arrival(5.0, True), 1: Arrival(4.0, True), 2: Arrival(9.0, False), 3: Arrival(9.0, False)}
    (c,) = compare_times({"a": a, "b": b}, [("a", "b")], Rule())
    assert (c.sooner, c.later, c.tied, c.unknown) == (1, 0, 1, 2)
    assert c.horizon == 3.0
    assert c.sign_p == 1.0


def test_where_no_run_arrives_there_is_nothing_to_compare() -> None:
    never = {s: Arrival(10.0, False) for s in range(8)}
    (c,) = compare_times({"a": never, "b": never}, [("a", "b")], Rule(margin=1.0))
    assert c.comparison.judgement.verdict is Verdict.UNTESTABLE
    assert c.sign_p == 1.0
    assert math.isnan(summarise_arrivals(never, 10.0).median)
    (welch_too,) = compare_times(
        {"a": {0: Arrival(1.0, True), 1: Arrival(2.0, True)}, "b": {5: Arrival(9.0, True), 6: Arrival(9.5, True)}},
        [("a", "b")],
        Rule(),
    )
    assert math.isinf(welch_too.horizon)
    assert math.isnan(welch_too.sign_p)


def test_a_short_arm_leaves_the_comparison_of_two_long_ones_open_and_not_at_an_exact_zero() -> None:
    """Its horizon is everybody's, and before it neither of the long ones arrived."""
    seeds = range(6)
    arms = {
        "short": {s: Arrival(780.0, False) for s in seeds},
        "early": {s: Arrival(6000.0 + 40 * s, True) for s in seeds},
        "late": {s: Arrival(9000.0 + 50 * s, True) for s in seeds},
    }
    (c,) = compare_times(arms, [("early", "late")], Rule())
    assert c.horizon == common_horizon(arms) == 780.0
    assert c.comparison.judgement.verdict is Verdict.UNTESTABLE
    estimate, judged = c.comparison.estimate, c.comparison.judgement
    assert all(math.isnan(v) for v in (estimate.mean, estimate.low, estimate.high, judged.p_zero, judged.p_beyond))
    assert (c.sooner, c.later, c.sign_p) == (6, 0, 2 / 2**6)
    (alone,) = compare_times({name: arms[name] for name in ("early", "late")}, [("early", "late")], Rule())
    assert alone.comparison.judgement.verdict is Verdict.BETTER


# what others build on


def test_results_become_plain_json() -> None:
    c = against_zero(0.02)
    told = json.loads(json.dumps(to_plain(c), allow_nan=False))
    assert told["judgement"] == {
        "verdict": "not testable",
        "p_zero": None,
        "p_beyond": None,
        "more_seeds": None,
        "minimum_detectable": None,
    }
    assert told["estimate"]["n"] == 1
    assert told["seeds"] == [0]

"""The noise floor against SciPy's own tests and distributions, and what it promises against simulated studies."""

import math
import random
from dataclasses import replace

import pytest
from scipy import stats

from paribus.study.analysis.noise import NoiseFloor, measure_noise
from paribus.study.stats import Rule, Verdict, minimum_detectable, seeds_for_unpaired_difference, to_plain

VALUES = {
    6: 0.9750,
    7: 0.9722,
    8: 0.9694,
    9: 0.9667,
    10: 0.9778,
    11: 0.9639,
    12: 0.9722,
    13: 0.9694,
    14: 0.9750,
    15: 0.9,
}
MARGIN = Rule(margin=0.01)


def measured(values: dict[int, float] = VALUES, rule: Rule = MARGIN, **more: object) -> NoiseFloor:
    return measure_noise("baseline", "val/acc1", values, range(6, 16), rule, **more)  # type: ignore[arg-type]


def power_by_scipy(effect: float, n: int, sd: float, alpha: float) -> float:
    """Of the two-sample t test with one spread in both arms, the right sign alone."""
    df = 2 * (n - 1)
    return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, effect / (sd * math.sqrt(2 / n))))


def test_the_halves_are_compared_by_welch() -> None:
    found = measured()
    halves = [[VALUES[s] for s in seeds] for seeds in (range(6, 11), range(11, 16))]
    by_scipy = stats.ttest_ind(*halves, equal_var=False)
    interval = by_scipy.confidence_interval(0.95)
    estimate = found.comparison.estimate
    assert not found.comparison.paired
    assert found.comparison.judgement.p_zero == pytest.approx(by_scipy.pvalue, rel=1e-10)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert estimate.mean == pytest.approx(sum(halves[0]) / 5 - sum(halves[1]) / 5)


def test_the_spread_and_its_interval_are_of_all_runs() -> None:
    found = measured()
    variance = stats.tvar(list(VALUES.values()))
    assert found.runs.sd == pytest.approx(math.sqrt(variance))
    ends = [math.sqrt(9 * variance / stats.chi2.ppf(q, 9)) for q in (0.975, 0.025)]
    assert (found.sd_low, found.sd_high) == pytest.approx(ends)


@pytest.mark.parametrize("comparisons", [1, 3])
def test_a_detectable_difference_is_found_with_the_stated_power(comparisons: int) -> None:
    found = measured(comparisons=comparisons)
    alpha, sd = 0.05 / comparisons, found.runs.sd
    assert [one.n for one in found.detectable] == [2, 3, 5, 8, 10, 20, 30]
    for one in found.detectable:
        assert power_by_scipy(one.unpaired, one.n, sd, alpha) == pytest.approx(0.8, abs=1e-6)
        assert power_by_scipy(one.low, one.n, found.sd_low, alpha) == pytest.approx(0.8, abs=1e-6)
        df = one.n - 1
        paired = stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, one.paired / (sd * math.sqrt(2 / one.n)))
        assert paired == pytest.approx(0.8, abs=1e-6)
        assert one.low < one.unpaired < one.high
        assert one.unpaired < one.paired


def test_twin_another_spread_has_not_that_power() -> None:
    found = measured()
    one = found.detectable[2]
    assert power_by_scipy(one.unpaired, one.n, 1.5 * found.runs.sd, 0.05) < 0.5
    assert power_by_scipy(one.unpaired, one.n + 3, found.runs.sd, 0.05) > 0.9


@pytest.mark.parametrize("effect", [0.002, 0.01, 0.03, 0.2])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_the_seeds_needed_are_the_fewest_that_are_enough(effect: float, alpha: float) -> None:
    n = seeds_for_unpaired_difference(effect, sd=0.01, alpha=alpha)
    assert power_by_scipy(effect, n, 0.01, alpha) >= 0.8
    assert n == 2 or power_by_scipy(effect, n - 1, 0.01, alpha) < 0.8


def test_the_smallest_effect_is_seen_by_the_seeds_that_are_named() -> None:
    needed = measured().needed
    assert needed is not None
    sd = measured().runs.sd
    assert power_by_scipy(0.01, needed.unpaired, sd, 0.05) >= 0.8 > power_by_scipy(0.01, needed.unpaired - 1, sd, 0.05)
    assert needed.low < needed.unpaired < needed.high
    assert needed.paired >= needed.unpaired
    assert measured(rule=Rule()).needed is None, "without a margin there is nothing to see"


def test_the_seeds_of_the_study_are_among_those_of_the_table() -> None:
    found = measured(planned=6)
    assert found.planned in found.detectable
    assert [one.n for one in found.detectable] == [2, 3, 5, 6, 8, 10, 20, 30]


def test_failed_and_missing_runs_are_listed_and_the_rest_is_measured() -> None:
    values = {seed: value for seed, value in VALUES.items() if seed != 12} | {7: math.nan}
    found = measured(values)
    assert (found.failed, found.missing) == ((7,), (12,))
    assert [half.n for half in found.halves] == [4, 4]
    assert found.is_measured
    few = measured({6: 0.9, 7: 0.91, 11: 0.92})
    assert few.comparison.judgement.verdict is Verdict.UNTESTABLE
    assert not few.is_measured
    assert measured({}).runs.n == 0


def test_runs_without_spread_promise_nothing() -> None:
    found = measured(dict.fromkeys(VALUES, 0.97))
    assert all(math.isnan(one.unpaired) and math.isnan(one.paired) for one in found.detectable)
    assert found.needed is None
    assert to_plain(found)["detectable"][0]["unpaired"] is None


def test_the_order_of_seeds_changes_nothing() -> None:
    turned = dict(reversed(VALUES.items()))
    assert measure_noise("baseline", "val/acc1", turned, reversed(range(6, 16)), MARGIN) == measured()


def test_better_or_worse_is_said_of_five_in_a_hundred() -> None:
    """Of 2,000 recipes against themselves; 5 % ± 1.5 is three standard errors."""
    draw = random.Random("noise floor")
    claims = (Verdict.BETTER, Verdict.WORSE)
    rule, seeds, false = Rule(), range(10), 0
    for _ in range(2000):
        values = {seed: draw.gauss(0.9, 0.01) for seed in seeds}
        false += measure_noise("a", "val/acc1", values, seeds, rule).comparison.judgement.verdict in claims
    assert 0.035 <= false / 2000 <= 0.065


def test_what_is_called_detectable_is_found_in_four_of_five_studies() -> None:
    draw = random.Random("detectable")
    n, sd = 5, 0.01
    effect = minimum_detectable(sd * math.sqrt(2 / n), 2 * (n - 1))
    found = 0
    for _ in range(2000):
        one, other = ([draw.gauss(level, sd) for _ in range(n)] for level in (effect, 0.0))
        found += stats.ttest_ind(one, other).pvalue <= 0.05
    assert 0.77 <= found / 2000 <= 0.83


def test_a_changed_recipe_is_not_measured() -> None:
    assert not replace(measured(), changed="optimizer.lr was 0.1, is 0.2").is_measured

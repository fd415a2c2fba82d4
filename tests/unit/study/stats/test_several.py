"""Several metrics in one family: Holm's rule over comparisons × metrics, against a straight-line account."""

import random
from collections.abc import Mapping, Sequence

import pytest
from scipy import stats

from paribus.study.stats import Comparison, Rule, Verdict, compare_all, compare_several

Arms = Mapping[str, Mapping[int, float]]
PAIRS = [("a", "base"), ("b", "base")]
RULES = [Rule(margin=0.05), Rule(higher_is_better=False), Rule(margin=0.02, higher_is_better=None)]


def metric(shifts: Mapping[str, float], sd: float, name: str) -> dict[str, dict[int, float]]:
    draw = random.Random(name)
    return {arm: {seed: shift + draw.gauss(0, sd) for seed in range(8)} for arm, shift in shifts.items()}


METRICS = [
    metric({"base": 0.5, "a": 0.53, "b": 0.5}, 0.01, "first"),
    metric({"base": 1.0, "a": 0.98, "b": 1.02}, 0.015, "second"),
    metric({"base": 0.0, "a": 0.004, "b": 0.03}, 0.006, "third"),
]


def by_hand(p: Sequence[float]) -> list[float]:
    """Each p times the number of hypotheses that are not smaller than it, never less than one before it."""
    order, found, least = sorted(range(len(p)), key=p.__getitem__), [0.0] * len(p), 0.0
    for i, k in enumerate(order):
        least = max(least, min(1.0, p[k] * (len(p) - i)))
        found[k] = least
    return found


def account(metrics: Sequence[Arms], rules: Sequence[Rule]) -> tuple[list[float], dict[int, float]]:
    """Adjusted p values of a difference, and those of equivalence of the comparisons whose metric has a margin."""
    zero, beyond = [], {}
    for arms, rule in zip(metrics, rules, strict=True):
        for arm, base in PAIRS:
            d = [arms[arm][seed] - arms[base][seed] for seed in range(8)]
            if rule.margin:
                upper = stats.ttest_1samp(d, rule.margin, alternative="less").pvalue
                lower = stats.ttest_1samp(d, -rule.margin, alternative="greater").pvalue
                beyond[len(zero)] = max(upper, lower)
            zero.append(stats.ttest_1samp(d, 0).pvalue)
    return by_hand(zero), dict(zip(beyond, by_hand([*beyond.values()]), strict=True))


def flatten(found: Sequence[Sequence[Comparison]]) -> list[Comparison]:
    return [c for of_metric in found for c in of_metric]


def assert_as_by_hand(found: Sequence[Comparison]) -> None:
    zero, beyond = account(METRICS, RULES)
    assert [c.judgement.p_zero for c in found] == pytest.approx(zero, rel=1e-9)
    assert {i: c.judgement.p_beyond for i, c in enumerate(found) if i in beyond} == pytest.approx(beyond, rel=1e-9)


def test_the_family_is_comparisons_times_metrics() -> None:
    assert_as_by_hand(flatten(compare_several(METRICS, PAIRS, RULES)))


def test_negative_control_each_metric_for_itself_is_another_family() -> None:
    alone = [compare_all(arms, PAIRS, rule) for arms, rule in zip(METRICS, RULES, strict=True)]
    with pytest.raises(AssertionError):
        assert_as_by_hand(flatten(alone))


def test_a_metric_without_a_margin_is_not_in_the_family_of_equivalence() -> None:
    found = flatten(compare_several(METRICS, PAIRS, RULES))
    assert [c.judgement.p_beyond == c.judgement.p_beyond for c in found] == [True, True, False, False, True, True]
    two = flatten(compare_several([METRICS[0], METRICS[2]], PAIRS, [RULES[0], RULES[2]]))
    assert [c.judgement.p_beyond for c in two] == [found[i].judgement.p_beyond for i in (0, 1, 4, 5)]


def test_one_that_cannot_be_tested_still_counts() -> None:
    lost = [METRICS[0], METRICS[1], {arm: {} for arm in METRICS[2]}]
    found, all_there = (flatten(compare_several(m, PAIRS, RULES)) for m in (lost, METRICS))
    assert found[4].judgement.verdict is Verdict.UNTESTABLE
    smallest = min(range(4), key=lambda i: found[i].estimate.p_zero)
    assert found[smallest].judgement.p_zero == pytest.approx(6 * found[smallest].estimate.p_zero)
    assert found[smallest].estimate == all_there[smallest].estimate


def test_each_has_its_own_direction() -> None:
    shifts = {"base": 1.0, "a": 0.5, "b": 1.5}
    arms = metric(shifts, 0.01, "clear")
    rules = [Rule(higher_is_better=way) for way in (True, False, None)]
    found = compare_several([arms] * 3, PAIRS, rules)
    assert [[c.judgement.verdict.value for c in of_metric] for of_metric in found] == [
        ["worse", "better"],
        ["better", "worse"],
        ["lower", "higher"],
    ]
    within = compare_several([arms], PAIRS, [Rule(higher_is_better=None, margin=2.0)])[0]
    assert [c.judgement.verdict for c in within] == [Verdict.LOWER_WITHIN, Verdict.HIGHER_WITHIN]

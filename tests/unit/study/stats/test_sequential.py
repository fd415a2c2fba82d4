"""Sequential plans: what is decided at a look, what stays decided, and that the simulation decides the same."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from paribus.core.errors import ConfigError
from paribus.study.stats import Decision, Estimate, Rule, SequentialPlan, Verdict, arms_to_run, decide, judge, to_plain
from paribus.study.stats.estimate import NAN, one_sample
from paribus.study.stats.resampling import make_generator
from paribus.study.stats.sequential import DIFFERENT, NEGLIGIBLE, family_levels
from paribus.study.stats.sequential_seeds import simulate

PLAN = SequentialPlan(first=5, more=5, most=30)
RULE = Rule(margin=1.0)


def estimate(p_zero: float, p_beyond: float = 1.0, mean: float = 0.4) -> Estimate:
    return Estimate(5, mean, 1.0, 0.5, 4, -1, 1, p_zero, p_beyond)


def test_the_looks_of_a_plan() -> None:
    assert PLAN.looks == (5, 10, 15, 20, 25, 30)
    assert SequentialPlan(4, 3, 12).looks == (4, 7, 10, 12)
    assert SequentialPlan(8, 1, 8).looks == (8,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 5, 30), "first: found 1, must be a whole number of seeds, 2 or more"),
        ((5, 0, 30), "more: found 0"),
        ((5, 5, 4), "most: found 4, must be a whole number of seeds, 5 or more"),
        ((5, 2.5, 30), "more: found 2.5"),
        ((5, 5, 30, "late"), "spending: found late"),
        ((5, 5, 30, "pocock", 1.0), "alpha: found 1.0"),
    ],
)
def test_a_plan_refuses_what_makes_no_sense(values: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SequentialPlan(*values)


def test_with_one_look_it_is_the_fixed_design() -> None:
    """Verdicts and intervals of `judge`, which knows no looks, on families with and without differences."""
    random = make_generator("fixed design")
    plan, seen = SequentialPlan(12, 1, 12), set()
    for _ in range(150):
        effects = random.choice([0.0, 0.4, 1.0, 2.5], size=4)
        values = random.normal(size=(4, 12)) * random.choice([0.5, 1.0]) + effects[:, None]
        estimates = [one_sample(row.tolist(), margin=RULE.margin) for row in values]
        decisions = decide(estimates, plan, RULE, look=1)
        assert [d.verdict for d in decisions] == [j.verdict for j in judge(estimates, RULE)]
        for d, e in zip(decisions, estimates, strict=True):
            assert (d.estimate.low, d.estimate.high) == pytest.approx((e.low, e.high))
        seen |= {d.verdict for d in decisions}
    assert seen >= {Verdict.BETTER, Verdict.BETTER_WITHIN, Verdict.EQUIVALENT, Verdict.UNDECIDED}


def test_a_claim_hands_its_level_to_the_others_at_the_same_look() -> None:
    levels = family_levels(PLAN, 3, 2)[:, 2]  # at the third look, for 1, 2 and 3 open claims
    between = (levels[3] + levels[2]) / 2
    alone = decide([estimate(between), estimate(0.5), estimate(0.5)], PLAN, RULE, look=3, before=undecided(3))
    assert [d.verdict for d in alone] == [Verdict.UNDECIDED] * 3
    assert alone[0].level_zero == pytest.approx(levels[3])
    helped = decide(
        [estimate(between), estimate(0.9 * levels[3]), estimate(NAN)], PLAN, RULE, look=3, before=undecided(3)
    )
    assert [d.verdict for d in helped] == [Verdict.BETTER, Verdict.BETTER, Verdict.UNDECIDED]
    assert [d.level_zero for d in helped] == pytest.approx([levels[2], levels[3], levels[1]]), "what each was held to"


def undecided(m: int) -> tuple[Decision, ...]:
    return (Decision(Verdict.UNDECIDED, 1, False, estimate(0.5), 0.0, 0.0),) * m


def test_the_families_are_separate_and_an_equivalent_one_hands_no_level_to_the_differences() -> None:
    zero, beyond = family_levels(PLAN, 2, 2)[:, 3], family_levels(PLAN, 2, 1)[:, 3]
    found = [estimate(0.5, beyond[2]), estimate((zero[2] + zero[1]) / 2, (beyond[2] + beyond[1]) / 2)]
    decisions = decide(found, PLAN, RULE, look=4, before=undecided(2))
    assert [d.verdict for d in decisions] == [Verdict.EQUIVALENT, Verdict.EQUIVALENT]
    decisions = decide([found[0], replace(found[1], p_beyond=1.0)], PLAN, RULE, look=4, before=undecided(2))
    assert [d.verdict for d in decisions] == [Verdict.EQUIVALENT, Verdict.UNDECIDED]
    assert decisions[1].level_zero == pytest.approx(zero[2])
    both = decide([estimate(zero[2], beyond[2]), estimate(0.5)], PLAN, RULE, look=4, before=undecided(2))
    assert both[0].verdict is Verdict.BETTER_WITHIN


def test_what_is_closed_stays_as_it_was_decided() -> None:
    tiny, pairs = 1e-12, [("cutmix", "baseline"), ("adamp", "baseline")]
    first = decide([estimate(tiny, mean=-2.0), estimate(0.5)], PLAN, RULE, look=1)
    assert [(d.verdict, d.closed, d.look) for d in first] == [(Verdict.WORSE, True, 1), (Verdict.UNDECIDED, False, 1)]
    assert arms_to_run(pairs, first) == {"adamp", "baseline"}
    second = decide([estimate(0.9, tiny), estimate(0.5, tiny)], PLAN, RULE, look=2, before=first)
    assert second[0] is first[0]
    assert (second[1].verdict, second[1].look) == (Verdict.EQUIVALENT, 2)
    assert arms_to_run(pairs, second) == set()


def test_the_direction_of_the_metric_and_a_comparison_without_seeds() -> None:
    rule = replace(RULE, higher_is_better=False)
    decisions = decide([estimate(1e-12), Estimate(1, 0.3), Estimate(0, NAN)], PLAN, rule, look=1)
    assert [d.verdict for d in decisions] == [Verdict.WORSE, Verdict.UNTESTABLE, Verdict.UNTESTABLE]
    assert not decisions[1].closed
    late = decide([estimate(0.5), estimate(1e-12), Estimate(0, NAN)], PLAN, rule, look=2, before=decisions)
    assert [d.verdict for d in late] == [Verdict.WORSE, Verdict.WORSE, Verdict.UNTESTABLE]
    assert to_plain(late[2])["estimate"]["low"] is None


def test_the_repeated_interval_leaves_out_0_where_a_difference_is_claimed() -> None:
    random, sides = make_generator("duality"), set()
    for look, n in enumerate(PLAN.looks[1:], start=2):
        for _ in range(40):
            found = one_sample((random.normal(size=n) + random.choice([0.4, 0.8, 1.2])).tolist(), margin=0.01)
            (d,) = decide([found], PLAN, Rule(margin=0.01), look=look, before=undecided(1))
            assert (d.estimate.low <= 0 <= d.estimate.high) == (d.verdict not in DIFFERENT)
            assert d.estimate.high - d.estimate.low > found.high - found.low
            sides.add(d.verdict in DIFFERENT)
    assert sides == {True, False}


def test_an_interval_that_cannot_be_given_is_infinite_or_nan() -> None:
    spread = one_sample([0.1, 0.2, 0.4], margin=1.0)
    (d,) = decide([spread], SequentialPlan(3, 997, 5_000), RULE, look=1)
    assert (d.estimate.low, d.estimate.high) == (-math.inf, math.inf)
    (d,) = decide([one_sample([0.5] * 20, margin=1.0)], PLAN, RULE, look=4, before=undecided(1))
    assert d.verdict is Verdict.BETTER_WITHIN  # 20 equal differences: p is 2^-19
    assert math.isnan(d.estimate.low)


def test_what_is_refused() -> None:
    assert decide([], PLAN, RULE, look=1) == ()
    with pytest.raises(ConfigError, match=r"alpha: the rule of the study has 0\.1, its sequential plan 0\.05"):
        decide([estimate(0.5)], PLAN, Rule(alpha=0.1), look=1)
    for look, before in ((0, ()), (7, undecided(1)), (2, ()), (1, undecided(1)), (2, undecided(2))):
        with pytest.raises(ValueError, match="decisions for 1 estimates"):
            decide([estimate(0.5)], PLAN, RULE, look=look, before=before)


@pytest.mark.parametrize("plan", [PLAN, SequentialPlan(4, 2, 20, "pocock")])
def test_the_simulation_decides_as_a_study_does(plan: SequentialPlan) -> None:
    effects, sd, margin, count = (0.0, 0.5, 1.0, 2.0), 1.2, 1.0, 40
    studies = simulate(plan, effects, sd=sd, margin=margin, studies=count, name="as a study")
    runs = make_generator("as a study", 0, len(effects), plan.most).standard_normal((count, 5, plan.most))
    differences = (runs[:, 1:] - runs[:, :1]) * math.sqrt(0.5) * sd + np.array(effects)[:, None]
    for s in range(count):
        last = follow(differences[s].tolist(), plan, Rule(margin=margin))
        assert [d.verdict in DIFFERENT for d in last] == studies.differs[s].tolist()
        assert [d.verdict in NEGLIGIBLE for d in last] == studies.negligible[s].tolist()
        assert [plan.looks[d.look - 1] for d in last] == studies.seeds[s].tolist()
        assert [d.estimate.mean for d in last] == pytest.approx(studies.mean[s].tolist())
        held = [d.estimate.low <= e <= d.estimate.high for d, e in zip(last, effects, strict=True)]
        assert held == studies.covered[s].tolist()
    assert 0.2 < studies.closed.mean() < 1


def follow(differences: Sequence[Sequence[float]], plan: SequentialPlan, rule: Rule) -> tuple[Decision, ...]:
    """A study from its first look to its last."""
    decisions: tuple[Decision, ...] = ()
    for look, n in enumerate(plan.looks, start=1):
        estimates = [one_sample(d[:n], margin=rule.margin, alpha=rule.alpha) for d in differences]
        decisions = decide(estimates, plan, rule, look=look, before=decisions)
    return decisions

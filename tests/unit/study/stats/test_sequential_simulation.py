"""What stopping early promises, measured over 20,000 studies a figure, through the function that makes the claims.

    python -m pytest -q -s tests/unit/study/stats/test_sequential_simulation.py

prints the shares (with -m "slow or not slow" those of 200,000 studies as well). The tables of docs/statistics.md come
from scripts/sequential_seeds.py.
"""

import math

import numpy as np
import pytest

from paribus.study.stats import SequentialPlan, sequential_seeds
from paribus.study.stats.power import minimum_detectable
from paribus.study.stats.sequential import family_levels
from paribus.study.stats.sequential_seeds import SimulatedStudies, simulate

PLANS = [SequentialPlan(5, 5, 30), SequentialPlan(4, 2, 20), SequentialPlan(2, 1, 10, "pocock")]
MARGIN, NONE = 1.0, 1e-9
AT_MOST = 0.055  # 5 % and the error of 20,000 studies


def spread(plan: SequentialPlan, m: int) -> float:
    """With which `most` seeds, looked at once, find a difference of the margin with 85 % at 0.05 / m."""
    return MARGIN / minimum_detectable(plan.most**-0.5, plan.most - 1, alpha=0.05 / m, power=0.85)


def studies(
    plan: SequentialPlan, effects: list[float], margin: float = MARGIN, count: int = 20_000
) -> SimulatedStudies:
    return simulate(plan, effects, sd=spread(plan, len(effects)), margin=margin, studies=count)


def any_of(claims: np.ndarray) -> float:
    return float(claims.any(axis=1).mean())


@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("m", [1, 3, 6])
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_false_claims(plan: SequentialPlan, m: int, count: int) -> None:
    null = studies(plan, [0.0] * m, NONE, count)  # without a margin: nothing stops for equivalence
    edge = studies(plan, [MARGIN] * m, count=count)
    false, same = any_of(null.differs), any_of(edge.negligible)
    print(
        f"\n{plan.looks} {plan.spending}, {m} comparisons, {count} studies: better or worse said in {false:.2%}",
        end=" ",
    )
    print(
        f"without a difference, equivalent in {same:.2%} at the margin; interval {edge.covered.mean():.2%} at the stop,"
    )
    print(f"        {null.always_covered.mean():.2%} at every look")
    allowed = 0.05 + 3 * math.sqrt(0.0475 / count)
    assert max(false, same) <= min(AT_MOST, allowed)
    assert min(edge.covered.mean(), null.covered.mean(), null.always_covered.mean()) > 0.95 - (allowed - 0.05)
    if m == 1:
        assert false > 0.05 - (allowed - 0.05), "levels that spend less than they may"


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_true_differences_do_not_make_false_claims_about_the_others(plan: SequentialPlan) -> None:
    mixed = studies(plan, [2.0, -2.0, 0.0, 0.0], NONE)
    assert any_of(mixed.differs[:, 2:]) <= AT_MOST
    assert mixed.differs[:, :2].mean() > 0.95
    mixed = studies(plan, [0.0, 0.0, 1.0, -1.0, 1.3])
    assert any_of(mixed.negligible[:, 2:]) <= AT_MOST
    assert mixed.negligible[:, :2].mean() > 0.5
    with_margin = studies(plan, [0.0] * 3)
    assert any_of(with_margin.differs) <= AT_MOST


@pytest.mark.parametrize("m", [1, 3, 6])
@pytest.mark.parametrize("plan", PLANS[:2], ids=str)
def test_large_differences_take_far_fewer_seeds_and_no_truth_takes_more(plan: SequentialPlan, m: int) -> None:
    seeds = {truth: studies(plan, [truth] * m, count=4_000).seeds.mean() for truth in (0.0, 0.5, 1.0, 2.0)}
    assert seeds[2.0] <= 0.7 * plan.most
    assert max(seeds.values()) < plan.most
    assert studies(plan, [2.0] * m, count=4_000).differs.mean() > 0.999


def test_the_price_is_a_few_points_of_power() -> None:
    plan = PLANS[0]
    early, fixed = (studies(p, [MARGIN]).differs.mean() for p in (plan, SequentialPlan(30, 1, 30)))
    assert fixed == pytest.approx(0.85, abs=0.01)
    assert fixed - 0.04 < early < fixed


def test_negative_control_looks_or_comparisons_that_are_not_adjusted_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def looks_for_free(plan: SequentialPlan, m: int, sides: int) -> np.ndarray:
        return np.array([[0.05 / max(1, j)] * len(plan.looks) for j in range(m + 1)])

    def comparisons_for_free(plan: SequentialPlan, m: int, sides: int) -> np.ndarray:
        return np.array([family_levels(plan, 1, sides)[1]] * (m + 1))  # type: ignore[arg-type]

    for wrong, m in ((looks_for_free, 1), (looks_for_free, 3), (comparisons_for_free, 3)):
        monkeypatch.setattr(sequential_seeds, "family_levels", wrong)
        assert any_of(studies(PLANS[0], [0.0] * m, NONE).differs) > 0.08
        assert any_of(studies(PLANS[0], [MARGIN] * m).negligible) > AT_MOST

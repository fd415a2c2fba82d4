"""Levels of repeated t tests, against published tables, the multivariate normal and simulated t statistics."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import multivariate_normal

from paribus.core.errors import ConfigError
from paribus.study.stats import spending
from paribus.study.stats.resampling import make_generator
from paribus.study.stats.spending import nominal_levels, spent

MANY = 20_000  # seeds from look to look at which a t statistic is normal to four digits


def z_values(looks: int, **how: object) -> NDArray:
    sides = how.get("sides", 2)
    levels = nominal_levels([MANY * (k + 1) for k in range(looks)], **how)  # type: ignore[arg-type]
    return -ndtri(np.array(levels) / sides)


@pytest.mark.parametrize(
    ("how", "published"),
    [
        # gsDesign's sfLDOF, one-sided 0.025 = two-sided 0.05, as quoted by the tests of several packages
        ({}, (3.710, 2.511, 1.993)),
        ({}, (4.333, 2.963, 2.359, 2.014)),
        ({}, (4.877, 3.357, 2.680, 2.290, 2.031)),
        # one-sided 0.05, the README of SeqBounds.jl
        ({"sides": 1}, (3.74955, 2.53993, 2.01604, 1.72014)),
        # gsDesign's sfLDPocock
        ({"spending": "pocock"}, (2.438, 2.427, 2.410, 2.397, 2.386)),
    ],
)
def test_with_many_seeds_they_are_the_published_boundaries(how: dict, published: tuple[float, ...]) -> None:
    assert z_values(len(published), **how) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("sides", [1, 2])
def test_with_many_seeds_they_spend_what_they_should_by_the_multivariate_normal(kind: str, sides: int) -> None:
    looks = (MANY, 2 * MANY, 5 * MANY)
    z = -ndtri(np.array(nominal_levels(looks, 0.04, kind, sides)) / sides)  # type: ignore[arg-type]
    correlation = np.array([[(min(a, b) / max(a, b)) ** 0.5 for a in looks] for b in looks])
    for k in (1, 2, 3):
        normal = multivariate_normal(cov=correlation[:k, :k])  # type: ignore[arg-type]  # a matrix is meant
        lower = -z[:k] if sides == 2 else np.full(k, -np.inf)
        claimed = 1 - normal.cdf(z[:k], lower_limit=lower)
        wanted = sides * spent(looks[k - 1] / looks[-1], 0.04 / sides, kind)  # type: ignore[arg-type]
        assert claimed == pytest.approx(wanted, abs=3e-5)


def t_statistics(looks: Sequence[int], count: int) -> NDArray:
    values = make_generator("repeated t", looks[0], looks[-1]).standard_normal((count, looks[-1]))
    n = np.array(looks)
    mean = values.cumsum(1)[:, n - 1] / n
    return mean / np.sqrt((np.square(values).cumsum(1)[:, n - 1] / n - mean**2) / (n - 1))


def first_claims(levels: Sequence[float], looks: Sequence[int], sides: int, count: int = 100_000) -> NDArray:
    """The share of studies without a true difference that make their first claim at each look."""
    t = t_statistics(looks, count)
    claims = (np.abs(t) if sides == 2 else t) >= -stdtrit(np.array(looks) - 1, np.array(levels) / sides)
    return np.array([(claims[:, k] & ~claims[:, :k].any(1)).mean() for k in range(len(looks))])


SMALL = [(2, 3), (5, 10, 15, 20, 25, 30), (4, 6, 8, 10, 12, 14, 16, 18, 20), tuple(range(2, 11)), (3, 4, 9, 10)]


@pytest.mark.parametrize("looks", SMALL)
@pytest.mark.parametrize(("kind", "sides"), [("obrien-fleming", 1), ("pocock", 2)])
def test_with_few_seeds_they_spend_what_they_should_by_simulated_t_statistics(
    looks: tuple[int, ...], kind: str, sides: int
) -> None:
    alpha, count = 0.05, 100_000
    found = first_claims(nominal_levels(looks, alpha, kind, sides), looks, sides)  # type: ignore[arg-type]
    so_far = [sides * spent(n / looks[-1], alpha / sides, kind) for n in looks]  # type: ignore[arg-type]
    wanted = np.diff([0, *so_far])
    assert np.abs(found - wanted).max() < 4 * np.sqrt(0.02 / count)
    assert found.sum() == pytest.approx(alpha, abs=3 * np.sqrt(0.05 / count))


def test_negative_control_the_simulation_sees_unadjusted_and_textbook_levels() -> None:
    looks = tuple(range(2, 11))
    assert first_claims([0.05] * len(looks), looks, 2).sum() > 0.15
    textbook = nominal_levels([1000 * n for n in looks], 0.05, "pocock")
    assert first_claims(textbook, looks, 2).sum() > 0.057


@pytest.mark.parametrize("looks", SMALL)
@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("sides", [1, 2])
def test_more_to_spend_is_a_higher_level_at_every_look(looks: tuple[int, ...], kind: str, sides: int) -> None:
    """What Holm's rule for repeated looks rests on."""
    levels = np.array([nominal_levels(looks, 0.05 / m, kind, sides) for m in (1, 2, 3, 7)])  # type: ignore[arg-type]
    assert (np.diff(levels, axis=0) < 0).all()


@pytest.mark.parametrize("looks", [(4, 6, 8, 10, 12), (2, 3, 4, 5)])
def test_a_finer_grid_changes_nothing(looks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = nominal_levels(looks, 0.01)
    for name in ("_GRID", "_PSIS", "_THETAS", "_TAIL"):
        monkeypatch.setattr(spending, name, 3 * getattr(spending, name))
    spending._levels.cache_clear()
    fine = nominal_levels(looks, 0.01)
    spending._levels.cache_clear()
    assert coarse == pytest.approx(fine, rel=1e-3)
    assert coarse[-1] == pytest.approx(fine[-1], rel=2e-4)


def test_one_look_is_the_plain_test_and_a_look_too_early_spends_nothing() -> None:
    assert nominal_levels((7,), 0.05) == pytest.approx((0.05,))
    assert nominal_levels((7,), 0.03, sides=1) == pytest.approx((0.03,))
    early, late = nominal_levels((2, 10_000), 0.01)
    assert early == 0
    assert late == pytest.approx(0.01, rel=1e-4)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="alpha: found 0"):
        nominal_levels((5, 10), 0)
    with pytest.raises(ConfigError, match=r"must be below 0\.5"):
        nominal_levels((5, 10), 0.6, sides=1)
    with pytest.raises(ConfigError, match="must be obrien-fleming or pocock"):
        nominal_levels((5, 10), 0.05, "haybittle")  # type: ignore[arg-type]
    for looks in ((), (1, 5), (5, 5), (10, 5)):
        with pytest.raises(ValueError, match="must ascend"):
            nominal_levels(looks)

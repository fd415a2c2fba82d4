"""The choice: medians, ties, failures; and the expected best of n trials, against all subsets there are."""

import itertools
import math
import random
import statistics

import pytest

from paribus.study.tuning.choice import (
    ChosenSetting,
    ChosenSettings,
    expect_best,
    find_best,
    parse_chosen,
    plain_chosen,
    take_median,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "higher", "lower"),
    [
        ([0.5], 0.5, 0.5),
        ([0.5, 0.7, 0.6], 0.6, 0.6),
        ([0.5, 0.7], 0.6, 0.6),
        ([0.5, 0.7, NAN], 0.5, 0.7),  # the failed run is the worst: not dropped, which would give 0.6
        ([0.5, NAN, NAN], -INF, INF),
        ([0.5, NAN], -INF, INF),
        ([0.9, 0.5, 0.7, NAN, INF], 0.5, 0.9),  # an infinite loss is a failure in either direction
        ([NAN], -INF, INF),
    ],
)
def test_a_failed_run_counts_as_the_worst(values: list[float], higher: float, lower: float) -> None:
    assert take_median(values, higher_is_better=True) == pytest.approx(higher)
    assert take_median(values, higher_is_better=False) == pytest.approx(lower)


def test_the_best_median_is_taken_and_the_earlier_of_equal_ones() -> None:
    medians = {"default": 0.5, "t01": 0.7, "t02": 0.7, "t03": 0.4}
    assert find_best(medians, higher_is_better=True) == "t01"
    assert find_best(medians, higher_is_better=False) == "t03"
    assert find_best({"default": 0.7, "t01": 0.7}, higher_is_better=True) == "default"


def test_what_failed_is_never_taken() -> None:
    assert find_best({"default": INF, "t01": 0.9}, higher_is_better=False) == "t01"
    assert find_best({"default": -INF, "t01": 0.1}, higher_is_better=True) == "t01"
    assert find_best({"default": -INF, "t01": NAN}, higher_is_better=True) is None


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("ties", [False, True])
def test_the_expected_best_is_the_mean_over_all_subsets(higher: bool, ties: bool) -> None:
    rng = random.Random(5)
    values = [round(rng.random(), 1 if ties else 9) for _ in range(9)]
    best = max if higher else min
    found = expect_best(values, higher)
    assert len(found) == 9
    for n, expected in enumerate(found, start=1):
        assert expected == pytest.approx(
            statistics.fmean(best(chosen) for chosen in itertools.combinations(values, n)), abs=1e-12
        )
    assert found[0] == pytest.approx(statistics.fmean(values))
    assert found[-1] == best(values)


def test_with_replacement_would_be_another_number() -> None:
    values = [0.1, 0.5, 0.9]
    replaced = statistics.fmean(max(pair) for pair in itertools.product(values, repeat=2))
    assert expect_best(values, True)[1] == pytest.approx((0.5 + 0.9 + 0.9) / 3)
    assert abs(expect_best(values, True)[1] - replaced) > 0.05


def test_many_trials_do_not_overflow() -> None:
    """Of ranks 1 to N, the largest of n drawn is n (N + 1) / (n + 1) in the mean."""
    found = expect_best([float(rank) for rank in range(1, 401)], True)
    assert list(found) == pytest.approx([n * 401 / (n + 1) for n in range(1, 401)], rel=1e-12)


def test_what_is_frozen_can_be_read_again() -> None:
    chosen = ChosenSettings({"a": ChosenSetting("t03", ("optimizer.lr=0.1",), 0.5)}, "digest")
    assert parse_chosen(plain_chosen(chosen)) == chosen
    assert plain_chosen(None) == {}
    assert parse_chosen({"schema": 2}) is None
    with pytest.raises(KeyError):
        parse_chosen({"tuned": {}})

"""Time ratios: which pairs of runs were beside each other, whose times a ratio is from, and what the report says."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from helpers.reports import invented, question
from paribus.study.analysis.analysis import Analysis, analyse
from paribus.study.analysis.costs import are_neighbours
from paribus.study.report.sections_cost import build_overheads
from paribus.study.report.wording import Unit
from paribus.study.rows import Row

BEGIN = datetime.fromisoformat("2026-11-20T08:00:00+00:00")


def timed(arm: str, seed: int, begin: float, seconds: float, **changes: Any) -> Row:
    """A run that began so many seconds after BEGIN and took so many, 10 of them to evaluate."""
    cost = {**invented(arm, seed).cost, "train_s": seconds - 10, "eval_s": 10.0}
    return invented(arm, seed, cost=cost, **{"started": (BEGIN + timedelta(seconds=begin)).isoformat(), **changes})


@pytest.mark.parametrize(
    ("begin", "seconds", "changes", "expected"),
    [
        (0, 100, {}, True),
        (99, 30, {}, True),
        (200, 30, {}, True),  # 100 s after the end of the one that took 100
        (201, 30, {}, False),
        (300, 200, {}, True),  # the longer one counts
        (301, 200, {}, False),
        (-130, 30, {}, True),
        (-131, 30, {}, False),
        (0, 100, {"hardware": {"cpu": "another", "cores": 2, "gpu": None}}, False),
        (0, 100, {"segments": 2}, False),
        (0, 100, {"started": None}, False),
        (0, 100, {"started": "this morning"}, False),
        (0, 100, {"started": "2026-11-20T09:00:00+01:00"}, True),  # the same moment
        (0, 100, {"cost": {}}, False),
    ],
)
def test_which_runs_were_beside_each_other(
    begin: float, seconds: float, changes: Mapping[str, Any], expected: bool
) -> None:
    one = timed("baseline", 0, 0, 100)
    row = timed("cutmix", 0, begin, seconds)
    other = invented("cutmix", 0, **{"cost": row.cost, "started": row.started, **changes})
    assert are_neighbours(one, other) == are_neighbours(other, one) == expected


def study(ratios: Sequence[float], apart: Sequence[bool], **changes: Any) -> Analysis:
    """Pairs with these ratios of training time, of which some are apart by days."""
    rows = []
    for seed, (ratio, is_apart) in enumerate(zip(ratios, apart, strict=True)):
        begin = 1000.0 * seed
        rows.append(timed("baseline", seed, begin, 110))
        rows.append(timed("cutmix", seed, begin + 3e5 * is_apart, 10 + 100 * ratio, **changes))
    return analyse(question(["baseline", "cutmix"], range(len(ratios))), rows)


def told(a: Analysis) -> str:
    section = build_overheads(a, Unit(100, "%", "points", 2))
    assert section is not None
    return "\n".join(section.notes[1:])


def test_where_two_pairs_were_beside_each_other_the_ratio_is_theirs() -> None:
    a = study([1.1, 3.0, 1.1, 3.0], [False, True, False, True])
    (found,) = a.overheads
    assert (found.n, found.pairs, found.neighbours, found.paired) == (2, 4, 2, True)
    assert found.ratio == pytest.approx(1.1)
    assert "Left out, as they were not: 2 of 4 seeds of cutmix." in told(a)
    assert "Kept" not in told(a)


def test_one_such_pair_is_not_enough_and_the_report_says_so() -> None:
    a = study([1.1, 3.0, 1.1, 3.0], [False, True, True, True])
    (found,) = a.overheads
    assert (found.n, found.pairs, found.neighbours) == (4, 4, 1)
    assert found.ratio == pytest.approx(math.sqrt(3.3))
    assert "Kept although they were not, for want of two pairs that were: 3 of 4 seeds of cutmix." in told(a)
    assert "Left out" not in told(a)


def test_nothing_is_said_where_all_were_and_where_arm_after_arm_was_run_on_one_machine() -> None:
    for apart in (False, True):
        a = study([1.1, 1.2, 1.3], [apart] * 3)
        assert a.overheads[0].neighbours == (0 if apart else 3)
        assert a.overheads[0].ratio == pytest.approx((1.1 * 1.2 * 1.3) ** (1 / 3))
        assert told(a) == ""
    elsewhere = study([1.1, 1.2, 1.3], [True] * 3, hardware={"cpu": "another", "cores": 2, "gpu": None})
    assert "Kept although they were not, for want of two pairs that were: 3 of 3 seeds of cutmix." in told(elsewhere)

"""`paribus study plan --power`: how many seeds, in the words and the unit of the reports."""

from pathlib import Path
from typing import Any

import pytest

from helpers.reports import invented
from helpers.studies import made_up_plan, written
from paribus.cli.study.power import power_lines


@pytest.mark.parametrize(
    ("changes", "size", "spread"),
    [
        ({"smallest_effect": "0.5pt"}, "true difference of 0.5 points in val/acc1", "points over 6 seeds"),
        ({"smallest_effect": "1e-2"}, "true difference of 1 point in val/acc1", "points over 6 seeds"),
        (
            {"smallest_effect": "1e-1", "metric": "val/loss", "higher_is_better": False},
            "true difference of 0.1 in val/loss",
            " over 6 seeds",
        ),
    ],
)
def test_differences_are_in_the_unit_of_reports(
    tmp_path: Path, changes: dict[str, Any], size: str, spread: str
) -> None:
    study = written(tmp_path, seeds=6, **changes)
    rows = [invented(c.arm, c.seed, 0.9, id=c.id) for c in made_up_plan(study).cells]
    head, line = power_lines(study, rows)
    assert size in head
    assert spread in line
    assert ("points" in line) == (study.spec.metric == "val/acc1")

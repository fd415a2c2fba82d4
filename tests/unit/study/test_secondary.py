"""The key `also`: what it may say, that it is frozen in the plan, and that studies without it stay as they were."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study.frozen import Replaced, freeze_spec, parse_frozen, plain_frozen
from paribus.study.looks import add_look, read_looks
from paribus.study.plan import format_plan, freeze, read_plan
from paribus.study.report.changes import list_changes
from paribus.study.spec import SecondaryMetric

ECE = {"metric": "val/ece", "higher_is_better": False}
PAIR = {"arm": "cutmix", "against": "baseline", "source": "a paper"}


def test_a_name_alone_is_an_accuracy_in_points(tmp_path: Path) -> None:
    spec = written(tmp_path, also=["val/acc5", {**ECE, "smallest_effect": 0.2}]).spec
    assert spec.also == (
        SecondaryMetric(metric="val/acc5", higher_is_better=True, smallest_effect=None, unit="points"),
        SecondaryMetric(metric="val/ece", higher_is_better=False, smallest_effect=0.2, unit="none"),
    )


def test_a_fraction_has_margins_in_points(tmp_path: Path) -> None:
    paper = {**PAIR, "metric": "val/ece", "difference": "-3pt"}
    spec = written(tmp_path, also=[{**ECE, "unit": "points", "smallest_effect": "0.5pt"}], paper=[paper]).spec
    assert (spec.also[0].smallest_effect, spec.paper[0].difference) == (0.005, -0.03)


def test_a_figure_of_the_study_s_own_metric_may_name_it(tmp_path: Path) -> None:
    spec = written(tmp_path, paper=[{**PAIR, "metric": "val/acc1", "difference": 0.02}]).spec
    assert spec.paper[0].metric == ""


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"also": "val/ece"}, "also: found 'val/ece'; should be a list"),
    ({"also": ["val/ece"]}, "also.0: val/ece is not an accuracy, so say which way is better"),
    ({"also": ["val/acc5", {"metric": "ood/fpr95"}]}, "also.1: ood/fpr95 is not an accuracy"),
    ({"also": ["acc5"]}, "also.0.metric: found 'acc5'"),
    ({"also": [3]}, "also.0.metric: found 3"),
    ({"also": [{**ECE, "margin": 1}]}, "also.0.margin: no such key"),
    ({"also": [{**ECE, "unit": "percent"}]}, "also.0.unit: found 'percent'"),
    ({"also": [{**ECE, "smallest_effect": "1pt"}]}, "also.0.smallest_effect: found '1pt'; val/ece is not an accuracy"),
    ({"also": [{**ECE, "unit": "points", "smallest_effect": 0.5}]}, "also.0.smallest_effect: found 0.5 on val/ece; is"),
    ({"also": [{**ECE, "smallest_effect": 0}]}, "also.0.smallest_effect: found 0"),
    ({"also": ["val/acc1"]}, "also: val/acc1 is the study's metric"),
    ({"also": [ECE, ECE]}, "also: val/ece is listed twice"),
    ({"paper": [{**PAIR, "metric": "val/ec", "difference": 1}], "also": [ECE]},
     "paper.0.metric: found val/ec (did you mean val/ece or val/acc1?); should be the study's metric or one of also"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        written(tmp_path, **changes)
    assert str(refused.value).startswith(f"{tmp_path / 'study.yaml'}: {told}")
    assert "\n" not in str(refused.value)


def test_it_is_frozen_whatever_the_order_and_read_again(tmp_path: Path) -> None:
    one = freeze_spec(written(tmp_path, also=["val/acc5", ECE]).spec)
    other = freeze_spec(written(tmp_path, also=[ECE, "val/acc5"]).spec)
    assert one == other
    assert parse_frozen(json.loads(json.dumps(plain_frozen(one)))) == one


def test_plans_and_looks_without_it_have_no_trace_of_it(tmp_path: Path) -> None:
    """Else every recorded plan would be written anew."""
    study = written(tmp_path)
    plan = made_up_plan(study)
    assert plan.frozen is not None
    earlier = replace(plan, earlier=(Replaced(plan.frozen, 2, 0),))
    assert "also" not in format_plan(earlier)
    assert [*plain_frozen(plan.frozen)] == [key for key in asdict(plan.frozen) if key not in ("also", "looks")]
    add_look(study, [row(plan.cells[0])])
    assert "also" not in (tmp_path / "looks.jsonl").read_text()


def test_what_is_added_after_rows_is_told(tmp_path: Path) -> None:
    study = written(tmp_path)
    plan = made_up_plan(study)
    rows = [row(cell) for cell in plan.cells]
    study = written(tmp_path, also=["val/acc5", {**ECE, "smallest_effect": 0.02}])
    new = freeze(study, replace(plan, frozen=freeze_spec(study.spec)), rows)
    assert list_changes(new, freeze_spec(study.spec)) == (
        "Secondary metrics added (val/acc5, val/ece) after 4 rows, no look on record.",
    )
    add_look(study, rows)
    assert read_looks(study)[0].frozen == freeze_spec(study.spec)
    study = written(tmp_path, also=[{**ECE, "higher_is_better": None}])
    new = freeze(study, replace(plan, frozen=freeze_spec(study.spec)), rows)
    told = list_changes(new, freeze_spec(study.spec))
    assert [text.partition(" after")[0] for text in told] == [
        "Secondary metrics dropped (val/acc5)",
        "Margin of val/ece changed from 0.02 to none",
        "Direction of val/ece changed to neither way is better",
    ]
    found = read_plan(study.plan_path)
    assert found is not None
    assert found.frozen == freeze_spec(study.spec)

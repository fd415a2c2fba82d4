"""measures.jsonl: lines that are added once, survive a torn end, and count only for the row that they belong to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.measured import measures_for, measures_of
from helpers.reports import invented, rows_for
from helpers.studies import written
from paribus.core.errors import ConfigError
from paribus.study.measures import Measure, add_measures, join_measures, measures_path, read_measures
from paribus.study.spec import Study

ROWS = rows_for({"baseline": 0.9, "cutmix": 0.92}, range(2))
MEASURES = measures_for(ROWS, {"baseline": 0.1, "cutmix": 0.05})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return written(tmp_path / "study")


def refusal(study: Study, *new: Measure) -> str:
    before = measures_path(study).read_bytes()
    with pytest.raises(ConfigError) as refused:
        add_measures(study, new)
    assert measures_path(study).read_bytes() == before
    return str(refused.value)


def test_lines_are_read_as_they_were_written_and_added_once(study: Study) -> None:
    assert read_measures(study) == []
    add_measures(study, MEASURES[:3])
    assert read_measures(study) == MEASURES[:3]
    before = measures_path(study).read_bytes()
    add_measures(study, [replace(MEASURES[0], seconds=9.0)])
    assert measures_path(study).read_bytes() == before
    add_measures(study, MEASURES)
    assert measures_path(study).read_bytes().startswith(before)
    assert read_measures(study) == MEASURES


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_last_line_is_left_out_and_goes(study: Study, kept: int) -> None:
    add_measures(study, MEASURES[:2])
    whole = measures_path(study).read_bytes()
    first, last = whole.splitlines(keepends=True)
    measures_path(study).write_bytes(first + last[:kept])
    assert read_measures(study) == MEASURES[:1]
    add_measures(study, MEASURES[1:2])
    assert measures_path(study).read_bytes() == whole


def test_a_last_line_without_its_end_that_is_whole_stays(study: Study) -> None:
    add_measures(study, MEASURES[:2])
    whole = measures_path(study).read_bytes()
    measures_path(study).write_bytes(whole[:-1])
    assert read_measures(study) == MEASURES[:2]
    add_measures(study, MEASURES[2:3])
    assert measures_path(study).read_bytes().startswith(whole)


def test_a_damaged_line_in_the_middle_or_a_newer_one_is_refused(study: Study) -> None:
    add_measures(study, MEASURES[:2])
    first, last = measures_path(study).read_text().splitlines(keepends=True)
    measures_path(study).write_text(first[:50] + "\n" + last)
    with pytest.raises(ConfigError, match="line 1 is damaged"):
        read_measures(study)
    measures_path(study).write_text(first + json.dumps({**json.loads(last), "schema": 2}) + "\n")
    with pytest.raises(ConfigError, match="of schema 2; this paribus reads up to 1"):
        read_measures(study)
    measures_path(study).write_text('{"schema": 1, "id": "x"}\n')
    with pytest.raises(ConfigError, match="line 1 is not a measure"):
        read_measures(study)


def test_an_evaluator_has_one_configuration(study: Study) -> None:
    add_measures(study, MEASURES[:1])
    other = replace(MEASURES[1], config={"_target_": "lab.Many", "bins": 10, "batch_size": 512})
    assert "evaluators.many: measures.jsonl has it with bins=15, and this is bins=10" in refusal(study, other)
    elsewhere = replace(MEASURES[1], config={"_target_": "lab.Many", "bins": 15, "batch_size": 64})
    add_measures(study, [elsewhere])
    assert read_measures(study)[1].config["batch_size"] == 64


def test_a_metric_comes_from_one_evaluator(study: Study) -> None:
    add_measures(study, MEASURES[:1])
    told = refusal(study, replace(MEASURES[1], evaluator="another", config={}))
    assert told.startswith("evaluators.another: ood/auroc is measured by many already")


def test_measures_count_for_the_row_they_belong_to() -> None:
    joined = join_measures(ROWS, MEASURES)
    assert joined.metrics["cutmix/s1"] == MEASURES[3].metrics
    assert joined.details["cutmix/s1"] == {"many": MEASURES[3].details}
    assert (joined.other_row, joined.several, joined.mixed) == ((), (), ())
    again = [replace(row, metrics={**row.metrics, "val/acc1": 0.5}) if row.seed == 1 else row for row in ROWS]
    joined = join_measures(again, MEASURES)
    assert sorted(joined.metrics) == ["baseline/s0", "cutmix/s0"]
    assert joined.other_row == ("baseline/s1", "cutmix/s1")
    newer = [measures_of(again[1], 0.2)]
    joined = join_measures(again, [*MEASURES, *newer])
    assert joined.metrics["baseline/s1"] == newer[0].metrics
    assert joined.other_row == ("cutmix/s1",)


def test_measures_of_another_recipe_count_for_nothing() -> None:
    joined = join_measures([replace(row, id="other") for row in ROWS], MEASURES)
    assert joined.metrics == {}
    assert joined.other_row == ()


def test_two_sets_of_weights_are_told_and_neither_is_used() -> None:
    second = replace(MEASURES[0], evaluator="second", metrics={"second/x": 1.0}, weights={"model": "others"})
    joined = join_measures(ROWS, [*MEASURES, second])
    assert joined.several == ("baseline/s0",)
    assert sorted(joined.metrics) == ["baseline/s1", "cutmix/s0", "cutmix/s1"]


def test_differing_versions_are_told_by_evaluator() -> None:
    newer = replace(MEASURES[3], versions={"pillow": "14.0.0"})
    assert join_measures(ROWS, [*MEASURES[:3], newer]).mixed == ("pillow of many",)


def test_a_failed_row_takes_no_measure() -> None:
    failed = invented("baseline", 0, state="failed")
    assert join_measures([failed], MEASURES).metrics == {}

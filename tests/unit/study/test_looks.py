"""What is frozen, what was frozen earlier, and the looks at results: recorded, never rewritten, and told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study import plan as plans
from paribus.study.frozen import freeze_spec
from paribus.study.load import load_study
from paribus.study.looks import add_look, hash_ids, looks_path, read_looks
from paribus.study.report.changes import list_changes
from paribus.study.rows import Row, read_rows, update_rows
from paribus.study.spec import Study

ROOT = Path(__file__).parents[3]
ON_RECORD = sorted(path.parent for path in (ROOT / "experiments").glob("*/results.jsonl"))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two arms of two seeds, all four rows on record."""
    made = written(tmp_path / "study")
    plan = made_up_plan(made)
    update_rows(made, [row(cell) for cell in plan.cells], plan.ids())
    return made


def rows_of(study: Study) -> list[Row]:
    return read_rows(study.results_path)


def plan_again(study: Study) -> None:
    """What `paribus study plan` does after study.yaml was changed."""
    before = study.plan_path.read_text()
    made = made_up_plan(study)
    study.plan_path.write_text(before)
    plans.freeze(study, made, rows_of(study))


def told(study: Study) -> list[str]:
    """What a report says now."""
    earlier = plans.list_earlier(study, plans.read_plan(study.plan_path), rows_of(study))
    return list(list_changes(earlier, freeze_spec(study.spec)))


def to_schema_1(study: Study) -> bytes:
    """The plan as an earlier paribus wrote it."""
    head, *cells = (json.loads(line) for line in study.plan_path.read_text().splitlines())
    del head["frozen"], head["earlier"]
    text = "".join(json.dumps({**line, "schema": 1}) + "\n" for line in (head, *cells))
    study.plan_path.write_text(text)
    return text.encode()


THREE = {"baseline": [], "cutmix": ["technique=cutmix"], "adamp": ["technique=adamp"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smallest_effect": 0.02}, ["Margin changed from 1 point to 2 points"]),
        (
            {"metric": "val/loss", "higher_is_better": False},
            ["Metric changed from val/acc1 to val/loss", "Direction changed to lower is better"],
        ),
        (
            {"metric": "val/loss", "smallest_effect": 0.1, "higher_is_better": True},
            ["Metric changed from val/acc1 to val/loss", "Margin changed from 1 point to 0.1"],
        ),
        ({"higher_is_better": False}, ["Direction changed to lower is better"]),
        (
            {"comparisons": [{"arm": "baseline", "against": "cutmix"}]},
            ["Comparisons added (baseline against cutmix)", "Comparisons dropped (cutmix against baseline)"],
        ),
        ({"arms": THREE}, ["Comparisons added (adamp against baseline)"]),
        ({"seeds": 4}, ["Seeds added (2, 3)"]),
    ],
)
@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("schema", [1, 2])
def test_a_change_after_rows_is_told_at_once_and_kept(
    study: Study, changes: Any, said: list[str], looked: bool, schema: int
) -> None:
    if schema == 1:
        to_schema_1(study)
    if looked:
        add_look(study, rows_of(study))
    when = "after 4 rows and a look at 4" if looked else "after 4 rows, no look on record"
    known = looked or schema == 2 or "seeds" in changes  # all that a plan of schema 1 tells without a look
    expected = [f"{one} {when}." for one in said] if known else []
    changed = written(study.folder, **changes)
    assert told(changed) == expected, "before it is planned"
    plan_again(changed)
    assert told(changed) == expected
    once = changed.plan_path.read_bytes()
    plan_again(changed)
    assert changed.plan_path.read_bytes() == once


def test_changing_back_is_a_change_too(study: Study) -> None:
    plan_again(written(study.folder, smallest_effect=0.02))
    back = written(study.folder)
    assert [text.partition(" after")[0] for text in told(back)] == [
        "Margin changed from 1 point to 2 points",
        "Margin changed from 2 points to 1 point",
    ]


def test_seeds_dropped_before_they_ran_are_told(study: Study) -> None:
    longer = written(study.folder, seeds=4)
    plan_again(longer)
    add_look(longer, rows_of(longer))
    assert told(written(study.folder))[-1] == "Seeds dropped (2, 3) after 4 rows and a look at 4."


def test_the_order_of_seeds_and_comparisons_is_no_change(study: Study) -> None:
    changed = written(study.folder, seeds=[1, 0])
    assert told(changed) == []


def test_before_the_first_row_anything_may_change(tmp_path: Path) -> None:
    study = written(tmp_path / "study")
    plans.freeze(study, made_up_plan(study), [])
    changed = written(study.folder, smallest_effect=0.02, seeds=5)
    plan_again(changed)
    assert told(changed) == []
    found = plans.read_plan(changed.plan_path)
    assert found is not None
    assert found.frozen == freeze_spec(changed.spec)


def test_a_failed_row_is_no_number(tmp_path: Path) -> None:
    study = written(tmp_path / "study")
    plan = made_up_plan(study)
    update_rows(study, [row(plan.cells[0], state="failed", metrics={})], plan.ids())
    assert told(written(study.folder, smallest_effect=0.02)) == []


def test_a_plan_of_schema_1_is_rewritten_only_when_its_study_changes(study: Study) -> None:
    before = to_schema_1(study)
    plan_again(study)
    add_look(study, rows_of(study))
    plan_again(study)
    assert study.plan_path.read_bytes() == before
    changed = written(study.folder, smallest_effect=0.02)
    plan_again(changed)
    found = plans.read_plan(study.plan_path)
    assert found is not None
    assert found.frozen == freeze_spec(changed.spec)
    assert [one.frozen.smallest_effect for one in found.earlier] == [0.01]


def test_a_plan_that_was_deleted_leaves_what_the_looks_show(study: Study) -> None:
    add_look(study, rows_of(study))
    study.plan_path.unlink()
    assert told(study) == []
    assert told(written(study.folder, smallest_effect=0.02)) == [
        "Margin changed from 1 point to 2 points after 4 rows and a look at 4."
    ]


def test_changes_are_told_in_the_order_in_which_they_were_made(study: Study) -> None:
    for value in (0.02, 0.03):
        study = written(study.folder, smallest_effect=value)
        plan_again(study)
    study = written(study.folder, smallest_effect=0.03, seeds=3)
    add_look(study, rows_of(study))
    assert told(study) == [
        "Margin changed from 1 point to 2 points after 4 rows, no look on record.",
        "Margin changed from 2 points to 3 points after 4 rows, no look on record.",
        "Seeds added (2) after 4 rows and a look at 4.",
    ]


# looks


def test_a_look_is_added_only_when_the_rows_are_others(study: Study) -> None:
    rows = rows_of(study)
    for seen in (rows[:2], rows[:2], rows[1::-1], rows, rows, rows[:2]):
        add_look(study, seen)
    looks = read_looks(study)
    assert [look.rows for look in looks] == [2, 4, 2]
    assert looks[1].arms == {"baseline": 2, "cutmix": 2}
    assert looks[0].digest == looks[2].digest == hash_ids(rows[:2])
    assert looks[0].frozen == freeze_spec(study.spec)
    first = looks_path(study).read_text().splitlines()[0]
    assert json.loads(first).keys() == {"schema", "time", "rows", "arms", "digest", "frozen"}


def test_a_failed_row_makes_no_look(study: Study) -> None:
    rows = rows_of(study)
    add_look(study, rows[:2])
    add_look(study, [*rows[:2], replace(rows[2], state="failed")])
    assert len(read_looks(study)) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"schema": 9}', "schema 9; this paribus reads up to 1"),
        ("{", "line 1 is damaged"),
        ('{"schema": 1}', "is damaged"),
        ('{"schema": 1, "time": "", "rows": 1, "arms": {}, "digest": "", "frozen": {}}', "is damaged"),
    ],
)
def test_damaged_or_newer_looks_are_refused_and_stay(study: Study, line: str, said: str) -> None:
    looks_path(study).write_text(line + "\n")
    with pytest.raises(ConfigError, match=said):
        add_look(study, rows_of(study))
    assert looks_path(study).read_text() == line + "\n"


@pytest.mark.parametrize("folder", ON_RECORD, ids=[folder.name for folder in ON_RECORD])
def test_recorded_studies_were_looked_at_as_they_stand(folder: Path) -> None:
    """So `paribus results --write` leaves the checkout as it is. Their reports tell of no change, but for those whose
    secondary metrics were named when training had begun and none of them was measured."""
    study = load_study(folder)
    looks = read_looks(study)
    assert looks[-1].digest == hash_ids(rows_of(study))
    assert looks[-1].frozen == freeze_spec(study.spec)
    late = folder.name in {"cutmix_robustness", "pit_robustness", "adamp_adversarial", "tiny_imagenet20_boxes"}
    assert [text.partition(" (")[0] for text in told(study)] == ["Secondary metrics added"] * late


def test_a_margin_tried_without_a_plan_and_put_back_is_told(study: Study) -> None:
    plan_again(study)
    add_look(study, rows_of(study))
    before = (study.folder / "study.yaml").read_text()
    tried = load_study(written(study.folder, smallest_effect=0.04).folder)
    add_look(tried, rows_of(study))
    add_look(tried, rows_of(study))
    (study.folder / "study.yaml").write_text(before)
    study = load_study(study.folder)
    assert len(read_looks(study)) == 2
    forth, back = told(study)
    assert forth.startswith("Margin changed from 1 point to 4 points after 4 rows")
    assert back.startswith("Margin changed from 4 points to 1 point after 4 rows")
    plan_again(study)
    assert told(study) == [forth, back]

"""Rows, plans and what is refused: recipes that changed, rows that do not belong, files of a newer paribus."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.studies import finished, made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study import plan
from paribus.study import rows as rows_file


def test_a_row_from_a_run_folder(tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path / "study")).cells[1]
    finished(tmp_path / "run", cell, 0.75)
    made = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    assert made is not None
    assert (made.cell, made.id, made.state, made.why, made.segments, made.mixed) == (
        cell.name,
        cell.id,
        "done",
        "",
        1,
        False,
    )
    assert made.metrics == {"lr": 0.0, "train/loss": 1.0, "val/acc1": 0.75}  # no clocks
    # the loss of step 10 is that of the log line before it
    assert made.curves == {"train/loss": [[10, 3.0], [20, 1.0]], "val/acc1": [[10, 0.375], [20, 0.75]]}
    assert made.cost == {
        "train_s": 7.0, "eval_s": 1.0, "samples_per_sec": 300.0, "peak_gb": 0.5, "parameters": 1000, "macs": 5000,
    }  # fmt: skip
    assert made.commit == "c0ffee"


def test_segments_with_other_numerics_are_mixed(tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path / "study")).cells[0]
    finished(tmp_path / "run", cell)
    finished(tmp_path / "run", cell)
    path = tmp_path / "run" / "provenance.json"
    same = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    segments = json.loads(path.read_text())["segments"]
    segments[0]["fingerprint"] = {"threads": 2}
    path.write_text(json.dumps({"segments": segments}))
    other = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    assert same is not None
    assert other is not None
    assert (same.segments, same.mixed) == (2, False)
    assert (other.segments, other.mixed) == (2, True)
    segments[0] |= {"fingerprint": segments[1]["fingerprint"], "cpu": "another"}
    path.write_text(json.dumps({"segments": segments}))
    moved = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    assert moved is not None
    assert moved.mixed, "begun on another processor"


def test_a_run_that_is_not_finished_has_no_row_and_a_failed_one_says_why(tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path / "study")).cells[0]
    assert rows_file.read_row(tmp_path / "run", "study", cell.arm) is None
    finished(tmp_path / "run", cell, state="FAILED", why="the loss is not finite")
    made = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    assert made is not None
    assert (made.state, made.why, made.metrics) == ("failed", "the loss is not finite", {})
    assert made.curves["val/acc1"] == [[10, 0.25], [20, 0.5]]


@pytest.mark.parametrize("lost", [1, 30, "line"])
def test_a_damaged_tail_of_the_events_is_recovered(lost: int | str, tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path / "study")).cells[0]
    finished(tmp_path / "run", cell)
    whole = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    events = tmp_path / "run" / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-1]) + (b"" if lost == "line" else lines[-1][: -int(lost)]))
    again = rows_file.read_row(tmp_path / "run", "study", cell.arm)
    assert whole is not None
    assert again is not None
    assert (again.metrics, again.curves) == (whole.metrics, whole.curves)


def test_a_cell_with_two_rows_is_refused(tmp_path: Path) -> None:
    study = written(tmp_path / "study")
    cells = made_up_plan(study).cells
    rows_file.update_rows(study, [row(cell) for cell in cells], {cell.name: cell.id for cell in cells})
    lines = study.results_path.read_text().splitlines(keepends=True)
    assert len(rows_file.read_rows(study.results_path)) == len(lines) == len(cells)
    study.results_path.write_text("".join([*lines, lines[0].replace('"val/acc1": 0.5', '"val/acc1": 0.99')]))
    with pytest.raises(ConfigError, match=f"more than one row of {cells[0].name}"):
        rows_file.read_rows(study.results_path)


def test_a_row_on_record_is_not_given_up_for_less(tmp_path: Path) -> None:
    study = written(tmp_path)
    cell = made_up_plan(study).cells[0]
    whole = row(cell)
    rows_file.update_rows(study, [whole], {})
    for less in (
        replace(whole, state="failed", metrics={}, curves={}),
        replace(whole, curves={"val/acc1": [[20, 0.5]]}),
    ):
        assert rows_file.update_rows(study, [less], {}) == [whole]
    other = replace(whole, metrics={"val/acc1": 0.6}, curves={"val/acc1": [[20, 0.6]]})
    assert rows_file.update_rows(study, [other], {}) == [other]  # the run itself says something else


def test_rows_are_sorted_as_planned_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    study = written(tmp_path, seeds=[10, 9])
    cells = made_up_plan(study).cells
    rows = [row(cell, 0.1 + 0.2 * i) for i, cell in enumerate(cells)]
    ids = {cell.name: cell.id for cell in cells}
    for one in rows[::-1]:
        rows_file.update_rows(study, [one], ids)
    assert rows_file.read_rows(study.results_path) == rows
    assert list(ids) == ["baseline/s10", "baseline/s9", "cutmix/s10", "cutmix/s9"]
    before = study.results_path.stat().st_ino
    rows_file.update_rows(study, rows, ids)
    assert study.results_path.stat().st_ino == before, "nothing new: not written again"


@pytest.mark.parametrize("name", ["results.jsonl", "plan.jsonl"])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"schema": 9}', "line 2 is of schema 9; this paribus reads up to [12]; install a newer one"),
        ('{"schema": 1, "arm": "a"', "line 2 is damaged"),
        ('{"arm": "a"}', "line 2 is damaged"),
        ("[]", "line 2 is damaged"),
        ('{"schema": 1, "arm": "a"}', "line 2 is not a row|is damaged"),
    ],
)
def test_a_newer_or_damaged_file_is_refused_and_left_alone(name: str, line: str, told: str, tmp_path: Path) -> None:
    study = written(tmp_path)
    made = made_up_plan(study)
    rows_file.update_rows(study, [row(made.cells[0])], {})
    path = tmp_path / name
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n{line}\n")
    writes = {
        "results.jsonl": lambda: rows_file.update_rows(study, [row(made.cells[1])], {}),
        "plan.jsonl": lambda: plan.freeze(study, made, []),
    }
    with pytest.raises(ConfigError, match=told):
        writes[name]()
    assert path.read_text() == f"{first}\n{line}\n"


def test_a_recipe_that_changed_since_its_rows_were_recorded(tmp_path: Path) -> None:
    study = written(tmp_path)
    first = made_up_plan(study, lr=0.1)
    before = study.plan_path.read_text()
    later = made_up_plan(study, lr=0.2)
    study.plan_path.write_text(before)
    rows = [row(first.cells[2])]
    with pytest.raises(
        ConfigError, match=r"^arms.cutmix: the recipe has changed .*: optimizer.lr was 0.1, is 0.2 \(cutmix/s0"
    ):
        plan.freeze(study, later, rows)
    assert study.plan_path.read_text() == before
    plan.freeze(study, later, [])  # nothing was recorded yet
    assert plan.read_plan(study.plan_path) == later
    with pytest.raises(ConfigError, match="which keys is unknown"):
        plan.freeze(study, later, rows)


def test_what_failed_may_be_changed(tmp_path: Path) -> None:
    study = written(tmp_path)
    first = made_up_plan(study, lr=0.1)
    rows_file.update_rows(study, [row(cell, state="failed") for cell in first.cells[:2]], first.ids())
    later = made_up_plan(study, lr=0.2)
    plan.freeze(study, later, rows_file.read_rows(study.results_path))
    assert rows_file.update_rows(study, [row(later.cells[0])], later.ids()) == [row(later.cells[0])]


def test_a_cell_that_has_rows_stays_in_the_study(tmp_path: Path) -> None:
    study = written(tmp_path)
    made = made_up_plan(study)
    shorter = replace(made, cells=made.cells[:3])
    with pytest.raises(ConfigError, match="has a row of cutmix/s1, which is no longer planned; put it back"):
        plan.freeze(study, shorter, [row(made.cells[3])])
    plan.freeze(study, made, [row(shorter.cells[0])])  # more seeds are welcome


def test_two_arms_that_are_the_same_run(tmp_path: Path) -> None:
    study = written(tmp_path)
    made = made_up_plan(study)
    twin = replace(made, cells=(made.cells[0], replace(made.cells[2], id=made.cells[0].id)))
    with pytest.raises(ConfigError, match=r"arms.cutmix: computes the same as arm baseline"):
        plan.freeze(study, twin, [])


def test_differences_name_keys_and_see_the_order_of_transforms() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "transforms": [["x", {"p": 1}], ["y", {"q": 2}]]}
    other = {"a": {"b": 2, "c": [1, 2]}, "transforms": [["y", {"q": 2}], ["x", {"p": 3}]]}
    assert plan.diff_recipes(one, other) == [
        ("a.b", 1, 2),
        ("transforms (order)", ["x", "y"], ["y", "x"]),
        ("transforms.x.p", 1, 3),
    ]
    assert plan.diff_recipes({"transforms": []}, {"transforms": [["x", {"p": 1}]]})[-1] == (
        "transforms.x.p",
        "not there",
        1,
    )


def versions(**digests: str | None) -> dict[str, object]:
    return {"fingerprint": {"threads": 1, **({"packages": digests} if digests else {})}}


def test_rows_by_other_sources_of_a_users_package_do_not_repeat_each_other(tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path)).cells[0]
    plain, a, b = row(cell), row(cell, **versions(mine="a", other="x")), row(cell, **versions(mine="b", other="x"))
    assert rows_file.differing_sources(a, b) == ("mine",)
    assert rows_file.differing_sources(a, replace(a, metrics={})) == ()
    assert rows_file.differing_sources(plain, plain) == ()
    for one, other in ((plain, a), (a, plain)):  # not on record: nobody knows whether it is the same
        assert rows_file.differing_sources(one, other) == ("mine", "other")
    assert rows_file.differing_sources(row(cell, **versions(mine=None)), plain) == ()


def test_rows_made_before_an_edit_are_named(tmp_path: Path) -> None:
    cells = made_up_plan(written(tmp_path)).cells
    rows = [row(cell, **versions(mine=digest)) for cell, digest in zip(cells, "aab", strict=False)] + [row(cells[3])]
    assert rows_file.outdated_rows(rows, {"mine": "b"}) == {"mine": ["baseline/s0", "baseline/s1"]}
    assert rows_file.outdated_rows(rows, {"mine": "c"})["mine"] == ["baseline/s0", "baseline/s1", "cutmix/s0"]
    assert rows_file.outdated_rows(rows, {"mine": None}) == {}, "it cannot be found here"

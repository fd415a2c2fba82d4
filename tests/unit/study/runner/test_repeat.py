"""Rows of a repeat beside those on record: what counts as equal, what as different, and what as neither."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import made_up_plan, row, written
from paribus.cli.study.repeat import format_comparison
from paribus.study.rows import Row
from paribus.study.runner.repeat import COMPARISON, compare_rows, find_newest, find_next


@pytest.fixture
def recorded(tmp_path: Path) -> Row:
    return row(made_up_plan(written(tmp_path / "study")).cells[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "copied"},
        {"cost": {"train_s": 700.0, "eval_s": 1.0}},
        {"hardware": {"cores": 4}, "commit": "beef", "started": "2026-12-01", "segments": 3},
        {"metrics": {"val/acc1": 0.5, "train/unmixed_loss": 0.1}},  # logged by a later version
    ],
)
def test_costs_origin_and_what_is_not_on_record_are_not_compared(recorded: Row, changes: Any) -> None:
    found = compare_rows(replace(recorded, **changes), recorded)
    assert (found.result, found.values, found.numerics) == ("equal", (), ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {"val/acc1": math.nextafter(0.5, 1)}}, "val/acc1 (0.5 on record, 0.5000000000000001 here)"),
        ({"metrics": {}}, "val/acc1 (0.5 on record, not there here)"),
        ({"metrics": {"val/acc1": math.nan}}, "val/acc1 (0.5 on record, nan here)"),
        ({"curves": {"val/acc1": [[10, 0.1], [20, 0.5]]}}, "curve val/acc1 at step 10 (0.25 on record, 0.1 here)"),
        ({"curves": {"val/acc1": [[20, 0.5]]}}, "curve val/acc1 at step 10 (0.25 on record, not there here)"),
        ({"curves": {}}, "curve val/acc1 at step 10 (0.25 on record, not there here)"),
    ],
)
def test_any_other_bit_of_a_metric_or_a_curve_is_a_difference(recorded: Row, changes: Any, said: str) -> None:
    found = compare_rows(replace(recorded, **changes), recorded)
    assert found.result == "different"
    assert [str(value) for value in found.values] == [said]


def test_equal_numbers_of_another_source_of_a_users_package_are_no_repeat(recorded: Row) -> None:
    one, other = (replace(recorded, fingerprint={"packages": {"mine": digest}}) for digest in ("a", "b"))
    assert compare_rows(one, one).result == "equal"
    found = compare_rows(other, one)
    assert found.result == "other sources"
    assert any("not shown: " in line for line in format_comparison(Path("repeat-1"), [found]))
    assert compare_rows(replace(other, metrics={"val/acc1": 0.1}), one).result == "different"


def test_bits_are_what_counts(recorded: Row) -> None:
    lost, zero = (replace(recorded, metrics={"val/acc1": value}) for value in (math.nan, 0.0))
    assert compare_rows(replace(lost, metrics={"val/acc1": float("nan")}), lost).result == "equal"
    assert compare_rows(replace(zero, metrics={"val/acc1": -0.0}), zero).result == "different"


@pytest.mark.parametrize("changes", [None, {"state": "failed", "metrics": {}}, {"id": "another"}])
def test_without_a_done_row_of_the_same_recipe_there_is_nothing_to_compare_with(recorded: Row, changes: Any) -> None:
    other = None if changes is None else replace(recorded, **changes)
    assert compare_rows(recorded, other).result == "nothing on record"


@pytest.mark.parametrize("value", [0.5, 0.6])
def test_numerics_that_differ_are_named_beside_either_result(recorded: Row, value: float) -> None:
    here = replace(
        recorded,
        metrics={"val/acc1": value},
        fingerprint={"threads": 2, "torch": "2.15"},
        data_checksum="1",
        mixed=True,
    )
    found = compare_rows(here, recorded)
    assert found.result == ("equal" if value == 0.5 else "different")
    assert [d.key for d in found.numerics] == ["threads", "torch", "images", "mixed segments"]


def test_another_processor_is_named_first_and_that_of_a_gpu_run_is_not(recorded: Row) -> None:
    """Intel's and AMD's AVX-512 round differently: tuned_adamp_cifar10 on the other one had no equal cell."""
    intel, amd = ({"cpu": name, "cores": 2, "gpu": None} for name in ("Intel Xeon", "AMD EPYC"))
    here = replace(recorded, hardware=amd, fingerprint={**recorded.fingerprint, "torch": "2.16"})
    found = compare_rows(here, replace(recorded, hardware=intel))
    assert [d.key for d in found.numerics] == ["processor", "torch"]
    assert (found.numerics[0].recorded, found.numerics[0].here) == ("Intel Xeon", "AMD EPYC")
    one, other = (replace(recorded, hardware={**cpu, "gpu": "H200"}) for cpu in (intel, amd))
    assert compare_rows(one, other).numerics == ()


def test_a_repeat_goes_on_until_it_was_compared(tmp_path: Path) -> None:
    assert find_newest(tmp_path / "nowhere") is None
    assert find_next(tmp_path).name == "repeat-1"
    for number in (1, 9, 10):
        (tmp_path / f"repeat-{number}").mkdir()
        assert find_next(tmp_path).name == f"repeat-{number}"
        (tmp_path / f"repeat-{number}" / COMPARISON).touch()
    (tmp_path / "repeat-of-mine").mkdir()
    assert find_newest(tmp_path) == tmp_path / "repeat-10"
    assert find_next(tmp_path).name == "repeat-11"

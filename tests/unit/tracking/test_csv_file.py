"""metrics.csv: what pandas reads from it is what events.jsonl says, after growing, a resume and an accident too."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest

from paribus.tracking.csv_file import CSV
from paribus.tracking.events import Events, read_events

ENTRIES = ((10, {"loss": 1 / 3, "lr": 0.1}), (20, {"loss": 0.2, "lr": 0.1, "val/acc1": 0.5}), (30, {"loss": 0.1}))


def record(folder: Path, start: int, entries: tuple[tuple[int, Mapping[str, float]], ...]) -> str:
    """Record these in both, as a run does, and return the CSV file."""
    events, table = Events()(folder, start, 40), CSV()(folder, start, 40)
    for step, values in entries:
        for tracker in (events, table):
            tracker.log(step, values)
    events.close({})
    table.close({})
    return (folder / "metrics.csv").read_text()


def read(folder: Path) -> list[tuple[int, dict[str, float]]]:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(int(row.pop("step")), {key: float(value) for key, value in row.items() if value}) for row in rows]


def test_a_step_is_a_row_and_a_later_metric_a_column(tmp_path: Path) -> None:
    assert record(tmp_path, 0, ENTRIES) == (
        "step,loss,lr,val/acc1\n10,0.3333333333333333,0.1,\n20,0.2,0.1,0.5\n30,0.1,,\n"
    )
    assert read(tmp_path) == [(e["step"], e["values"]) for e in read_events(tmp_path / "events.jsonl")]


def test_after_a_resume_each_step_is_there_once(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = record(tmp_path / "whole", 0, ENTRIES)
    record(tmp_path / "parts", 0, ENTRIES[:2])
    assert record(tmp_path / "parts", 10, ENTRIES[1:]) == whole


@pytest.mark.parametrize("left", ["", "step,loss\n10,0.", None])
def test_whatever_a_kill_left_is_replaced_by_the_record(tmp_path: Path, left: str | None) -> None:
    whole = record(tmp_path, 0, ENTRIES)
    if left is None:
        (tmp_path / "metrics.csv").unlink()
    else:
        (tmp_path / "metrics.csv").write_text(left)
    assert record(tmp_path, 30, ()) == whole


def test_a_file_that_somebody_removed_comes_back_whole(tmp_path: Path) -> None:
    events, table = Events()(tmp_path, 0, 40), CSV()(tmp_path, 0, 40)
    for step in (10, 20):
        events.log(step, {"loss": 0.5})
        table.log(step, {"loss": 0.5})
        if step == 10:
            (tmp_path / "metrics.csv").unlink()
    events.close({})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n10,0.5\n20,0.5\n"


def test_pandas_reads_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    record(tmp_path, 0, ENTRIES)
    frame = pandas.read_csv(tmp_path / "metrics.csv", index_col="step")
    assert frame["loss"].tolist() == [1 / 3, 0.2, 0.1]
    assert frame["val/acc1"].dropna().to_dict() == {20: 0.5}

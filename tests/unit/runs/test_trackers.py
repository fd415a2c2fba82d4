"""Mirrors of the record cannot change a training or end it: on, off, and broken in every place."""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import Result, stopping_after, timeless, trained
from paribus.runs.trackers import Trackers
from paribus.tracking.csv_file import CSV, CSVLog
from paribus.tracking.events import read_events
from paribus.tracking.tensorboard import TensorBoard, TensorBoardLog

pytest.importorskip("tensorboard")
SMOKE = ("experiment=smoke", "steps=12ba", "every.log=3ba")
MIRRORS = "tracker=[events,csv,tensorboard]"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return trained(tmp_path_factory.mktemp("alone"), *SMOKE)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def bug(*_: Any, **__: Any) -> None:
    raise AttributeError("no such luck")


def greedy(self: Any, step: int, values: dict[str, float]) -> None:
    values.clear()


def test_mirrors_leave_the_result_as_it_is(alone: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = trained(tmp_path, *SMOKE, MIRRORS)
    assert told.same_as(alone)
    assert capsys.readouterr().err == ""
    assert (told.folder / "metrics.csv").exists()
    assert len(list(told.folder.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(("place", "fault"), [("__init__", bug), ("log", full_disk), ("close", bug)])
@pytest.mark.parametrize("mirror", [(CSV, CSVLog), (TensorBoard, TensorBoardLog)], ids=["csv", "tensorboard"])
def test_a_broken_mirror_is_one_warning_and_then_off(
    place: str,
    fault: Callable[..., None],
    mirror: tuple[type, type],
    alone: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mirror[1], place, fault)
    told = trained(tmp_path, *SMOKE, MIRRORS)
    assert told.same_as(alone)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {mirror[0 if place == '__init__' else 1].__name__} failed and is dropped")
    assert ("No space left" if fault is full_disk else "no such luck") in line


def test_a_folder_in_the_way_of_the_file_is_one_warning(
    alone: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / alone.folder.name / "metrics.csv").mkdir(parents=True)
    assert trained(tmp_path, *SMOKE, MIRRORS).same_as(alone)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: CSV failed and is dropped")


def test_a_mirror_that_empties_its_values_takes_them_from_nobody(
    alone: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CSVLog, "log", greedy)
    told = trained(tmp_path, *SMOKE, MIRRORS)
    assert told.same_as(alone)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(told.folder))
    reader.Reload()
    assert [event.step for event in reader.Scalars("train/loss")] == [3, 6, 9, 12]


def test_after_a_stop_and_a_resume_mirrors_have_each_step_once(
    alone: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stopping_after(patched, 8)
        trained(tmp_path, *SMOKE, MIRRORS)
    told = trained(tmp_path, *SMOKE, MIRRORS)
    assert told.same_as(alone)
    rows = (told.folder / "metrics.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["step", "3", "6", "9", "12"]
    assert len(list(told.folder.glob("events.out.tfevents.*"))) == 1
    assert timeless(read_events(told.folder / "events.jsonl")) == timeless(alone.events)


def test_the_record_itself_must_work() -> None:
    class Full:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            full_disk()

        def close(self, summary: Mapping[str, Any]) -> None: ...

    with pytest.raises(OSError, match="No space left"):
        Trackers([Full()]).log(1, {"loss": 0.5})

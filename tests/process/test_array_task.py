"""What a task of a Slurm array does with a cell that only pretends to train."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.pretended_cells import pretend
from helpers.studies import made_up_plan, written
from paribus.core import runfolder
from paribus.study.plan import Cell, Plan
from paribus.study.rows import read_rows
from paribus.study.runner.cells import log_path
from paribus.study.slurm import queue
from paribus.study.slurm.array_task import MAX_RESTARTS_WITHOUT_CHECKPOINT, run_cell
from paribus.study.spec import Study

NAME = "baseline/s0"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Plan, Path, Cell]:
    monkeypatch.setattr(queue, "requeue_self", lambda: None)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    study = written(tmp_path / "study")
    plan = made_up_plan(study)
    return study, plan, tmp_path / "runs", plan.by_name()[NAME]


@pytest.fixture
def run(
    world: tuple[Study, Plan, Path, Cell], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, int, list[str]]]:
    """Exit code, starts, and the states of the rows on record."""

    def call(*script: str) -> tuple[int, int, list[str]]:
        study, plan, runs, cell = world
        pretend(monkeypatch, {NAME: list(script)})
        code = run_cell(study, plan, runs, cell)
        starts = log_path(runs, cell).read_text().count("== start ")
        return code, starts, [row.state for row in read_rows(study.results_path)]

    return call


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (["done"], (0, 1, ["done"])),
        (["fail", "done"], (0, 2, ["done"])),  # retries: 1
        (["fail", "fail"], (1, 2, ["failed"])),
        (["die", "die"], (1, 2, [])),
        (["refuse"], (2, 1, [])),
        (["requeue"], (75, 1, [])),
    ],
)
def test_how_it_ends(
    script: list[str], expected: tuple[int, int, list[str]], run: Callable[..., tuple[int, int, list[str]]]
) -> None:
    assert run(*script) == expected


def test_a_cell_that_gets_nowhere_is_not_queued_for_ever(
    run: Callable[..., tuple[int, int, list[str]]],
    world: tuple[Study, Plan, Path, Cell],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(MAX_RESTARTS_WITHOUT_CHECKPOINT - 1))
    assert run("requeue")[0] == 75
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(MAX_RESTARTS_WITHOUT_CHECKPOINT))
    assert run("requeue", "requeue")[0] == 1
    assert "give it more --time" in capfd.readouterr().out
    _, _, runs, cell = world
    checkpoints = runs / cell.folder / runfolder.CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "last").write_text("step_00000007.pt")  # but this start found it, so it is none of its own
    assert run("requeue", "requeue", "requeue")[0] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_slurms_signal_reaches_the_cell_as_sigusr1(
    number: signal.Signals, run: Callable[..., tuple[int, int, list[str]]]
) -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    timer.start()
    code, starts, _ = run("30+done")  # it does not listen, so that the signal kills it
    timer.join()
    assert (code, starts) == (75, 1)


def test_a_cell_that_another_process_has_done_meanwhile(
    run: Callable[..., tuple[int, int, list[str]]], world: tuple[Study, Plan, Path, Cell]
) -> None:
    study, _, _, _ = world
    assert run("done") == (0, 1, ["done"])
    study.results_path.unlink()
    assert run() == (0, 1, ["done"]), "it is not trained again, and its row is there"

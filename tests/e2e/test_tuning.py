"""A study that tunes and really trains, its launcher and cells killed in either stage. It must end as planned."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from helpers.studies import written
from paribus.study import plan as plans
from paribus.study import tuned
from paribus.study.rows import read_rows
from paribus.study.spec import Study

Run = Callable[..., CompletedProcess[str]]


def kill_after(folder: Path, condition: Callable[[], bool]) -> None:
    """Start the one command and kill it, with the cell that it runs, once the condition holds."""
    command = [sys.executable, "-m", "paribus.cli", "study", "run", "study", "--workers", "1"]
    environment: Any = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment) as launcher:
        deadline = time.monotonic() + 200
        while not condition():
            assert launcher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        for process in (launcher.pid, *map(int, children)):
            os.kill(process, signal.SIGKILL)


def count(path: Path) -> int:
    return len(read_rows(path)) if path.exists() else 0


@pytest.mark.slow
def test_one_command_tunes_and_runs_though_it_is_killed_twice(tmp_path: Path, paribus: Run) -> None:
    study: Study = written(
        tmp_path / "study",
        recipe=["experiment=smoke", "steps=60ba", "every.evaluate=20ba", "data.minival=64"],
        arms={"adamw": [], "adamp": ["technique=adamp"]},
        settings=None,
        tune={"space": {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}, "trials": 2, "seeds": 1},
    )
    stage = tuned.open_stage(study)
    kill_after(tmp_path, lambda: count(stage.results_path) == 2)
    assert not study.plan_path.exists()
    kill_after(tmp_path, lambda: count(study.results_path) == 1)
    chosen = tuned.find_chosen(study)
    told = paribus("study", "run", "study", "--workers", "1", cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert (count(stage.results_path), count(study.results_path)) == (6, 4)
    assert tuned.find_chosen(study) == chosen is not None
    for row in read_rows(stage.results_path):
        assert {key.partition("/")[0] for key in row.metrics} == {"lr", "minival", "train"}, "val was not read"
    for cell in plans.require_plan(study).cells:
        assert set(chosen.arms[cell.arm].overrides) <= set(cell.overrides)
    starts = [path.read_text().count("== start ") for path in (tmp_path / "runs").rglob("*.log")]
    assert len(starts) == 10
    assert sum(starts) <= 12, "only what was running when it was killed is started anew"
    told = paribus("study", "report", "study", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "### Tuning" in (tmp_path / "study" / "README.md").read_text()

"""A study that tunes, on a real Slurm of one node: one command, given again until all is done."""

import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers.studies import written
from paribus.study import tuned
from paribus.study.rows import read_rows

Run = Callable[..., CompletedProcess[str]]


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_the_same_command_tunes_then_runs(cluster: Path, paribus: Run, tmp_path: Path) -> None:
    """One of the trials fails in training: its rate is no number that training survives."""
    study = written(
        tmp_path / "study",
        recipe=["experiment=smoke", "steps=20ba", "every.evaluate=10ba", "runtime.device=cpu", "data.minival=64"],
        settings=None,
        seeds=1,
        retries=0,
        tune={"space": {"optimizer.lr": {"choices": [0.02, 1e30]}}, "trials": 2, "seeds": 1},
    )
    stage = tuned.open_stage(study)

    def send() -> str:
        told = paribus("study", "run", "study", "--cluster", "slurm", cwd=tmp_path)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout + told.stderr

    assert "6 cells: 0 done, 0 running, 0 pending, 0 requeued, 6 submitted as job " in (first := send())
    assert "the same command again, once they are done, chooses the settings" in first
    assert "--stage tune" in next((tmp_path / "runs" / "study-tune" / "slurm").glob("*.sbatch")).read_text()
    assert not study.plan_path.exists()
    until(lambda: stage.results_path.exists() and len(read_rows(stage.results_path)) == 6)
    states = {row.cell: row.state for row in read_rows(stage.results_path)}
    assert sorted(states.values()) == ["done"] * 4 + ["failed"] * 2
    until(lambda: "2 submitted as job " in send(), 60)  # a task's job ends a moment after its row is there
    chosen = tuned.find_chosen(study)
    assert chosen is not None
    failed = {cell.partition("/")[0] for cell, state in states.items() if state == "failed"}
    assert not failed & {f"{arm}.{one.trial}" for arm, one in chosen.arms.items()}
    until(lambda: study.results_path.exists() and len(read_rows(study.results_path)) == 2)
    assert "2 cells: 2 done, 0 running, 0 pending, 0 requeued, 0 submitted" in send()

"""Studies on a real Slurm of one node: sent, requeued, cancelled, timed out. The record must not show it."""

import contextlib
import json
import os
import shutil
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
from paribus.study.rows import read_rows

Run = Callable[..., CompletedProcess[str]]
SHORT = ["experiment=smoke", "steps=20ba", "every.evaluate=10ba", "runtime.device=cpu"]
LONG = [
    *("experiment=smoke", "steps=600ba", "batch_size=64", "runtime.device=cpu"),
    *("every.log=7ba", "every.evaluate=30ba", "every.checkpoint=25ba"),
]


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def node(state: str) -> None:
    name = slurm("sinfo", "--noheader", "--Node", "--format=%N").strip()
    slurm("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")


def status(paribus: Run, folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> what `study status --json` says of a cell."""
    told = paribus("study", "status", "study", "--json", cwd=folder)
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    return {entry["cell"]: entry for entry in json.loads(told.stdout)["cells"]}


def states(paribus: Run, folder: Path) -> list[str]:
    return [entry["state"] for entry in status(paribus, folder).values()]


def send(paribus: Run, folder: Path, *options: str) -> str:
    told = paribus("study", "run", "study", "--cluster", "slurm", *options, cwd=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def numbers(folder: Path) -> list[Any]:
    """What repeats bit for bit."""
    rows = read_rows(folder / "study" / "results.jsonl")
    return [(row.cell, row.id, row.state, row.metrics, row.curves) for row in rows]


def checkpoint(folder: Path, cell: str) -> Path:
    """The name of a cell's newest checkpoint, once there is one."""
    plan = [json.loads(line) for line in (folder / "study" / "plan.jsonl").read_text().splitlines()[1:]]
    name = next(line["folder"] for line in plan if line["cell"] == cell)
    return folder / "runs" / "study" / name / "checkpoints" / "last"


def printed(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted((folder / "runs" / "study" / "slurm").glob("*.out")))


def test_an_array_is_sent_waits_and_ends_though_its_sender_is_gone(cluster: Path, paribus: Run, tmp_path: Path) -> None:
    written(tmp_path / "study", recipe=SHORT, seeds=2)
    node("drain")
    try:
        sender = subprocess.Popen(
            [sys.executable, "-m", "paribus.cli", "study", "run", "study", "--cluster", "slurm"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        told, _ = sender.communicate(timeout=120)
        assert sender.returncode == 0
        assert "4 cells: 0 done, 0 running, 0 pending, 0 requeued, 4 submitted as job " in told
        with contextlib.suppress(ProcessLookupError):  # all that the sender's session may have left behind
            os.killpg(sender.pid, signal.SIGKILL)
        jobs = [json.loads(line) for line in (tmp_path / "runs/study/slurm/jobs.jsonl").read_text().splitlines()]
        assert [len(job["cells"]) for job in jobs] == [3, 1], "this cluster's MaxArraySize is 3"
        assert set(states(paribus, tmp_path)) == {"pending"}
        assert "4 pending, 0 requeued, 0 submitted\n" in send(paribus, tmp_path), "what waits is not sent twice"
    finally:
        node("resume")
    results = tmp_path / "study" / "results.jsonl"
    until(lambda: results.exists() and len(read_rows(results)) == 4)
    assert set(states(paribus, tmp_path)) == {"done"}
    assert "4 done, 0 running, 0 pending, 0 requeued, 0 submitted\n" in send(paribus, tmp_path)


def test_a_dry_run_prints_the_script_and_sends_nothing(cluster: Path, paribus: Run, tmp_path: Path) -> None:
    written(tmp_path / "study", recipe=SHORT, seeds=1)
    options = ["--partition", "gpu", "--time", "2:00:00", "--sbatch=--exclusive", "--workers", "1"]
    told = paribus("study", "run", "study", "--cluster", "slurm", "--dry-run", *options, cwd=tmp_path)
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {"#SBATCH --partition=gpu", "#SBATCH --time=2:00:00", "#SBATCH --exclusive", "#SBATCH --array=0-1%1"} <= set(
        lines
    )
    assert told.stderr.endswith("2 cells would be submitted\n")
    assert not (tmp_path / "runs").exists()


def test_what_sbatch_refuses_is_one_line(cluster: Path, paribus: Run, tmp_path: Path) -> None:
    written(tmp_path / "study", recipe=SHORT, seeds=1)
    told = paribus("study", "run", "study", "--cluster", "slurm", "--partition", "gpu", cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith("paribus: sbatch: ")
    assert "invalid partition" in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, paribus: Run) -> Path:
    """A folder with a study of two cells of some seconds, finished without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    written(folder / "study", recipe=LONG, seeds=1)
    told = paribus("study", "run", "study", "--workers", "2", cwd=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    return folder


@pytest.fixture
def folder(local: Path, tmp_path: Path) -> Path:
    """The same study, with nothing done."""
    (tmp_path / "study").mkdir()
    shutil.copy(local / "study" / "study.yaml", tmp_path / "study")
    return tmp_path


def job_of(paribus: Run, folder: Path, cell: str) -> str:
    """The task that trains a cell, as soon as it has a checkpoint."""
    until(checkpoint(folder, cell).exists)
    line = json.loads((folder / "runs/study/slurm/jobs.jsonl").read_text().splitlines()[-1])
    return f"{line['job']}_{line['cells'].index(cell)}"


@pytest.mark.slow
def test_requeued_in_mid_run(cluster: Path, paribus: Run, folder: Path, local: Path) -> None:
    """As a preemption with PreemptMode=REQUEUE does it."""
    send(paribus, folder)
    slurm("scontrol", "requeue", job_of(paribus, folder, "baseline/s0"))
    until(lambda: status(paribus, folder)["baseline/s0"]["state"] == "requeued")
    until(lambda: len(numbers(folder)) == 2)
    assert numbers(folder) == numbers(local)
    first = read_rows(folder / "study" / "results.jsonl")[0]
    assert first.segments == 2
    assert "Slurm is ending job" in printed(folder)


@pytest.mark.slow
def test_warned_before_its_time_is_up(cluster: Path, paribus: Run, folder: Path, local: Path) -> None:
    send(paribus, folder)
    slurm("scancel", "--batch", "--signal=USR1", job_of(paribus, folder, "baseline/s0"))
    until(lambda: "its job is requeued" in printed(folder))
    until(lambda: len(numbers(folder)) == 2)
    assert numbers(folder) == numbers(local)
    assert [row.segments for row in read_rows(folder / "study" / "results.jsonl")] == [2, 1]


@pytest.mark.slow
def test_requeued_on_a_node_that_is_drained(cluster: Path, paribus: Run, folder: Path, local: Path) -> None:
    send(paribus, folder)
    job = job_of(paribus, folder, "baseline/s0")
    node("drain")
    try:
        slurm("scontrol", "requeue", job)
        until(lambda: states(paribus, folder) == ["requeued", "done"])
    finally:
        node("resume")
    until(lambda: len(numbers(folder)) == 2)
    assert numbers(folder) == numbers(local)


@pytest.mark.slow
def test_cancelled_shows_and_is_sent_again_on_request(cluster: Path, paribus: Run, folder: Path, local: Path) -> None:
    send(paribus, folder)
    job = job_of(paribus, folder, "baseline/s0")
    slurm("scancel", job)
    until(lambda: states(paribus, folder) == ["cancelled", "done"])
    time.sleep(12)  # a job that had requeued itself on its SIGTERM would be back
    now = status(paribus, folder)["baseline/s0"]
    assert now["state"] == "cancelled"
    assert now["job"] == job
    assert "1 done, 0 running, 0 pending, 0 requeued, 1 submitted" in send(paribus, folder)
    until(lambda: len(numbers(folder)) == 2)
    assert numbers(folder) == numbers(local)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_time_is_up(cluster: Path, paribus: Run, tmp_path: Path) -> None:
    """For real: a limit of one minute, the shortest, and a cell that needs longer."""
    for name in ("here", "there"):
        written(
            tmp_path / name / "study", recipe=LONG, arms={"short": ["steps=20ba"], "long": ["steps=6000ba"]}, seeds=1
        )
    send(paribus, tmp_path / "there", "--time", "1", "--sbatch=--signal=B:USR1@10")
    told = paribus("study", "run", "study", "--workers", "2", cwd=tmp_path / "here")
    assert told.returncode == 0, told.stdout + told.stderr
    until(lambda: len(numbers(tmp_path / "there")) == 2, 280)
    assert numbers(tmp_path / "there") == numbers(tmp_path / "here")
    assert read_rows(tmp_path / "there" / "study" / "results.jsonl")[1].segments > 1
    assert "its job is requeued" in printed(tmp_path / "there")


@pytest.mark.slow
def test_taken_back(cluster: Path, paribus: Run, folder: Path) -> None:
    send(paribus, folder)
    job_of(paribus, folder, "baseline/s0")
    told = paribus("study", "cancel", "study", cwd=folder)
    assert told.stdout == "2 cells cancelled; the same study run command submits them again\n"
    until(lambda: states(paribus, folder) == ["cancelled", "cancelled"])


@pytest.mark.slow
def test_cells_of_two_processes_each(cluster: Path, paribus: Run, folder: Path, local: Path) -> None:
    send(paribus, folder, "--template", "one_node", "--tasks", "2")
    slurm("scancel", "--batch", "--signal=USR1", job_of(paribus, folder, "baseline/s0"))
    until(lambda: len(numbers(folder)) == 2)
    rows = read_rows(folder / "study" / "results.jsonl")
    assert [row.fingerprint["world_size"] for row in rows] == [2, 2]
    assert [row.segments for row in rows] == [2, 1]
    for ours, theirs in zip(numbers(folder), numbers(local), strict=True):
        assert ours[3]["train/loss"] == pytest.approx(theirs[3]["train/loss"], rel=1e-2)

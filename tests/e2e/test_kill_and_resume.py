"""SIGKILL at random moments, then the same command again: the record must not show that anything happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers.trainings import Result, result_in

COMMAND = [
    *("train", "experiment=smoke", "technique=cutmix", "steps=300ba", "batch_size=64", "model.dropout=0.1"),
    *("every.log=7ba", "every.evaluate=30ba", "every.checkpoint=25ba", "runtime.threads=1", "ema.decay=0.99"),
]


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", *COMMAND],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def the_run(folder: Path) -> Path | None:
    return next((folder / "runs").glob("*"), None) if (folder / "runs").is_dir() else None


def recorded(folder: Path) -> int:
    """Lines of the record so far."""
    run = the_run(folder)
    path = run / "events.jsonl" if run else None
    return path.read_bytes().count(b"\n") if path and path.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder).wait(120) == 0
    run = the_run(folder)
    assert run is not None
    return result_in(run)


def test_sigkill_at_random_moments_loses_and_changes_nothing(undisturbed: Result, tmp_path: Path) -> None:
    dice = random.Random(20261122)
    kills = 0
    for _ in range(4):
        before = recorded(tmp_path)
        process = start(tmp_path)
        deadline = time.monotonic() + 60
        wanted = before + dice.randint(1, 8)
        while process.poll() is None and recorded(tmp_path) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 3
    assert start(tmp_path).wait(120) == 0
    run = the_run(tmp_path)
    assert run is not None
    result = result_in(run)
    assert undisturbed.same_as(result)
    steps = [event["step"] for event in result.events]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_checkpoints_and_asks_for_a_requeue(number: int, undisturbed: Result, tmp_path: Path) -> None:
    process = start(tmp_path)
    while process.poll() is None and recorded(tmp_path) < 3:
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait(60) == 75
    run = the_run(tmp_path)
    assert run is not None
    assert (run / "PREEMPTED").exists()
    assert start(tmp_path).wait(120) == 0
    assert undisturbed.same_as(result_in(run))


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path)
    while first.poll() is None and recorded(tmp_path) < 1:
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)  # it holds the folder for as long as the second takes to start
    second = subprocess.run(
        [sys.executable, "-m", "paribus.cli", *COMMAND], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr


def test_a_stop_during_a_sweep_starts_no_further_job(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paribus.cli", "train", "-m", *COMMAND[1:], "seed=0,1,2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and recorded(tmp_path) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "3 jobs: 3 ended with 75" in out
    assert err.count("not started, since a stop was requested") == 2


def test_a_damaged_newest_checkpoint_is_passed_over(
    undisturbed: Result, paribus: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    process = start(tmp_path)
    while process.poll() is None and recorded(tmp_path) < 12:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    run = the_run(tmp_path)
    assert run is not None
    newest = sorted((run / "checkpoints").glob("step_*.pt"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    done = paribus(*COMMAND, cwd=tmp_path)
    assert done.returncode == 0
    assert f"warning: {newest.relative_to(tmp_path)} is not a sound checkpoint" in done.stderr
    assert undisturbed.same_as(result_in(run))

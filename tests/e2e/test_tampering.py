"""What a sceptic changed in a finished run's folder, each of it told in one line; and signals before the first step."""

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.trainings import trained
from paribus.cli.main import dispatch

SMOKE = ("experiment=smoke", "steps=20ba", "every.log=5ba", "every.checkpoint=10ba", "every.evaluate=10ba")


@pytest.fixture(scope="module")
def the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), *SMOKE).folder


@pytest.fixture
def copy(the_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(the_run, tmp_path / "runs" / the_run.name))


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = dispatch(list(arguments))
    err = capfd.readouterr().err
    assert (code, err.count("\n")) == (2, 1), err
    return err


def resealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a checkpoint holds, and put the right digest after it."""
    state = torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=True)
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


def test_a_checkpoint_under_another_name(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved = copy / "checkpoints"
    shutil.copyfile(saved / "step_00000020.pt", saved / "step_00000010.pt")
    assert "holds the checkpoint of step 20" in refused(capfd, "verify", str(copy), "--span", "10:20")


@pytest.mark.parametrize("step", [10, 20])
def test_other_weights_under_the_right_digest(copy: Path, step: int, capfd: pytest.CaptureFixture[str]) -> None:
    def change(state: dict[str, Any]) -> None:
        next(iter(state["method"]["model"].values())).add_(1e-3)

    path = copy / "checkpoints" / f"step_{step:08d}.pt"
    resealed(path, lambda state: None)
    assert dispatch(["verify", str(copy)]) == 0, "the negative control: written again without a change"
    capfd.readouterr()
    resealed(path, change)
    assert "holds other weights than the run had" in refused(capfd, "verify", str(copy))


@pytest.mark.parametrize(("name", "at"), [("summary.json", 20), ("events.jsonl", 10)])
def test_a_better_result_than_the_run_had(copy: Path, name: str, at: int, capfd: pytest.CaptureFixture[str]) -> None:
    """What a study counts is in no receipt; a replay measures it again."""
    path = copy / name
    before = path.read_text()
    found = re.search(r'("step": 10, .*?)?"val/acc1": ([\d.]+)' if at == 10 else r'()"val/acc1": ([\d.]+)', before)
    assert found
    path.write_text(before[: found.start(2)] + "0.9876" + before[found.end(2) :])
    assert dispatch(["verify", str(copy)]) == 4
    told = capfd.readouterr().out
    assert f"differs from step {at}: val/acc1 was 0.9876 and is {float(found[2])!r}" in told


def test_a_record_that_ends_early(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = copy / "receipts.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert "ends at step 10 of 20" in refused(capfd, "verify", str(copy))


def test_going_on_from_what_was_changed(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    again = ["train", *SMOKE, "tracker=events", "runtime.threads=1", "runtime.device=cpu", f"paths.runs={copy.parent}"]
    (copy / "DONE").unlink()
    (copy / "checkpoints" / "step_00000020.pt").unlink()
    sound = (copy / "checkpoints" / "step_00000010.pt").read_bytes()

    def misshapen(state: dict[str, Any]) -> None:
        model = state["method"]["model"]
        model[next(iter(model))] = torch.zeros(2)

    resealed(copy / "checkpoints" / "step_00000010.pt", misshapen)
    told = refused(capfd, *again)
    assert "the checkpoint at step 10 does not fit this network: 1 of another shape: " in told
    assert "(2,) in the file, (" in told
    (copy / "checkpoints" / "step_00000010.pt").write_bytes(sound)
    path = copy / "receipts.jsonl"
    path.write_text(path.read_text().replace("1", "2", 1))
    assert "receipts.jsonl" in refused(capfd, *again)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_it_starts_asks_for_a_requeue(number: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paribus.cli", "train", "experiment=smoke", "tracker=events"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        process.kill()
        pytest.skip("no /proc here")
    while True:  # until the handler is there; torch takes a second more
        caught = int(next(x for x in status.read_text().splitlines() if x.startswith("SigCgt")).split()[1], 16)
        if caught >> (number - 1) & 1:
            break
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err == f"paribus: {signal.Signals(number).name} while starting; run the same command again\n"
    assert not (tmp_path / "runs").exists()

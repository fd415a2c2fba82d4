"""`paribus doctor` in processes of its own: on a bare machine, and the checks of the GPU that kill and that need two
ranks, here on the CPU."""

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, run
from typing import Any

import pytest
import torch

from paribus.doctor import gpu_processes
from paribus.doctor.gpu_check import Mismatch
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_processes, "TIMEOUT", 1000.0)


def test_a_new_user_without_anything_gets_a_line_for_each_thing(
    paribus: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    bare = {
        "PATH": "/nowhere",
        "HOME": str(tmp_path),
        "PARIBUS_DATA": "",
        "WANDB_MODE": "",
        "CC": "",
        "WANDB_API_KEY": "",
    }
    done = paribus("doctor", cwd=tmp_path, **bare)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    missing = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("missing ")]
    assert missing == ["compiler", "data", "W&B"]


def test_it_works_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom paribus.doctor import machine\n"
        "machine.read_cuda_build = lambda: None\nfrom paribus.cli.main import dispatch\nsys.exit(dispatch(['doctor']))"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ok      python" in done.stdout


@pytest.mark.slow
def test_killed_and_resumed_is_the_run_that_was_not() -> None:
    assert "the same bits" in gpu_processes.check_kill(CPU).found


@pytest.mark.slow
def test_two_ranks_are_one() -> None:
    assert gpu_processes.check_two_ranks(CPU).numbers["difference"] <= 1e-9


def test_negative_control_runs_that_ended_elsewhere_are_told_apart(tmp_path: Path) -> None:
    def ended(name: str, weight: float) -> Path:
        (tmp_path / name / "run").mkdir(parents=True)
        method: dict[str, Any] = {"model": {"w": torch.full((3,), weight)}}
        checkpoint.save(tmp_path / name / "run", Checkpoint(1, "id", method, {}), 1)
        return tmp_path / name

    one, same, other = ended("one", 1.0), ended("same", 1.0), ended("other", 1.0 + 1e-6)
    assert gpu_processes.compare_runs(one, same, None) == 0
    with pytest.raises(Mismatch, match="w: "):
        gpu_processes.compare_runs(one, other, None)
    with pytest.raises(Mismatch, match="w: "):
        gpu_processes.compare_runs(one, other, 1e-9)


def test_negative_control_a_training_that_fails_is_told() -> None:
    with pytest.raises(Mismatch, match=r"ended with 2: paribus: .*no such key"):
        gpu_processes.run_to_end([*gpu_processes.TRAIN, "nonsense=1"])

"""Runs of one recipe in several gloo processes, and how far apart they end."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import Result, result_in

COMMON = ["experiment=smoke", "steps=50ba", "runtime.threads=1", "runtime.device=cpu", "data.val_n=101", "seed=4"]
WORLDS = (2, 4)


def in_worlds(*arm: Any) -> list[Any]:
    """Parameters of a test in two processes and, as a slow test, in four, which take 40 s of CPU. arm: further ones,
    before the number of processes."""
    return [pytest.param(*arm, 2), pytest.param(*arm, 4, marks=pytest.mark.slow)]


def torchrun_command(processes: int, *command: str) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
        *("--master-addr=127.0.0.1", f"--master-port={port}", *command),
    ]


def torchrun(processes: int, *command: str) -> tuple[int, str]:
    process = subprocess.Popen(
        torchrun_command(processes, *command),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, err = process.communicate(timeout=240)
    finally:
        with suppress(ProcessLookupError):  # workers that hang outlive torchrun
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, err


def together(folder: Path, processes: int, *overrides: str) -> Result:
    code, err = torchrun(processes, "-m", "paribus.cli", "train", *COMMON, *overrides, f"paths.runs={folder}")
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


def furthest(one: Result, two: Result) -> float:
    """The largest difference of a weight tensor, relative to its largest entry."""
    return max(float((w - two.weights[k]).abs().max() / w.abs().max()) for k, w in one.weights.items())

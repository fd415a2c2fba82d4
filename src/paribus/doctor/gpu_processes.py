"""Checks in processes of their own: a training that is killed goes on, and two ranks train the net of one."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from paribus.doctor.gpu_check import Mismatch, NotHere, Passed, require_close, require_equal
from paribus.engine import checkpoint

TIMEOUT = 180.0  # seconds for a process
TRAIN = (
    "-m",
    "paribus.cli",
    "train",
    "experiment=smoke",
    "technique=cutmix",
    "tracker=events",
    "runtime=deterministic",
)


def check_kill(device: torch.device) -> Passed:
    """SIGKILL after the first checkpoint, the same command again: the weights of a run that was left alone."""
    options = [f"runtime.device={device}", "steps=300ba", "every.checkpoint=50ba", "every.evaluate=300ba"]
    with tempfile.TemporaryDirectory(prefix="paribus-doctor-") as name:
        whole, killed = Path(name, "whole"), Path(name, "killed")
        run_to_end([*TRAIN, *options, f"paths.runs={whole}"])
        process = start([*TRAIN, *options, f"paths.runs={killed}"])
        try:
            wait_for_checkpoint(killed, process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if list(killed.glob("*/DONE")):
            raise NotHere("the run had ended before it could be killed")
        run_to_end([*TRAIN, *options, f"paths.runs={killed}"])
        compare_runs(whole, killed, None)
    return Passed("killed after a checkpoint, run again: the same bits")


def check_two_ranks(device: torch.device) -> Passed:
    """Two processes, each with half of every batch, in float64, where only the order of sums differs."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        raise NotHere("needs two CUDA devices")
    options = [f"runtime.device={device.type}", "update.precision=fp64", "steps=40ba"]
    with tempfile.TemporaryDirectory(prefix="paribus-doctor-") as name:
        one, two = Path(name, "one"), Path(name, "two")
        run_to_end([*TRAIN, *options, f"paths.runs={one}"])
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
        run_to_end([*launcher, *TRAIN, *options, f"paths.runs={two}"])
        worst = compare_runs(one, two, 1e-9)
    return Passed(f"two processes against one, weights within {worst:.1e}", {"difference": worst})


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """This Python, in a process group of its own, with the paribus that runs here and without W&B."""
    source = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "WANDB_MODE": "disabled",
        "PYTHONPATH": f"{source}{os.pathsep}{known}" if known else source,
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_to_end(arguments: Sequence[str]) -> None:
    """Raises Mismatch with the last line it said if it fails."""
    process = start(arguments)
    try:
        _, said = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired as hangs:
        os.killpg(process.pid, signal.SIGKILL)  # with the ranks that torchrun started
        process.communicate()
        raise Mismatch(f"a training process did not end within {TIMEOUT:.0f} s") from hangs
    if process.returncode:
        raise Mismatch(
            f"a training process ended with {process.returncode}: {(said.strip().splitlines() or ['nothing'])[-1]}"
        )


def wait_for_checkpoint(runs: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not list(runs.glob("*/checkpoints/step_*.pt")) and process.poll() is None:
        if time.monotonic() > deadline:
            raise Mismatch(f"no checkpoint within {TIMEOUT:.0f} s")
        time.sleep(0.002)


def compare_runs(one: Path, other: Path, tolerance: float | None) -> float:
    """The largest difference of a weight at the end of two runs. tolerance: None for the same bits."""
    states = [checkpoint.load_newest(next(runs.iterdir())) for runs in (one, other)]
    first, second = ({} if state is None else state.method["model"] for state in states)
    if not first or first.keys() != second.keys():
        raise Mismatch("one of the runs has no checkpoint")
    worst = 0.0
    for key, weight in first.items():
        if tolerance is None:
            require_equal(key, weight, second[key])
        else:
            worst = max(worst, require_close(key, weight, second[key], tolerance))
    return worst

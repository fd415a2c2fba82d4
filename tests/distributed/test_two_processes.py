"""Two gloo processes against one: the same samples, augmentation, CutMix partners and boxes, and exact evaluation."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from every_overlay import run_overlay

from paribus.core.lock import locked
from trainings import OVERLAYS, Result, recipe_of, result_in, stopping_after, timeless, trained

COMMON = ["experiment=smoke", "steps=50ba", "runtime.threads=1", "runtime.device=cpu", "data.val_n=101", "seed=4"]


def torchrun(processes: int, *command: str) -> tuple[int, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
            *("--master-addr=127.0.0.1", f"--master-port={port}", *command),
        ],
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


@pytest.mark.parametrize(("precision", "tolerance"), [("fp64", 1e-12), ("fp32", 1e-4)])
def test_two_processes_train_the_same_net(precision: str, tolerance: float, tmp_path: Path) -> None:
    overrides = [f"update.precision={precision}", "update.accumulate=2"]
    one = trained(tmp_path / "one", *COMMON, *overrides, techniques=("cutmix",))
    two = together(tmp_path / "two", 2, *overrides, "technique=[cutmix]")
    assert furthest(one, two) <= tolerance
    assert [e["step"] for e in one.events] == [e["step"] for e in two.events]
    if precision == "fp64":  # no prediction is near enough to a tie to turn
        ours, theirs = timeless(one.events), timeless(two.events)
        for (_, a), (_, b) in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys()
            assert all(abs(a[k] - b[k]) < 1e-10 for k in a)
            assert a.get("val/acc1") == b.get("val/acc1")


def test_twin_another_seed_is_far_away(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *COMMON, "update.precision=fp64", "seed=5", techniques=("cutmix",))
    two = together(tmp_path / "two", 2, "update.precision=fp64", "technique=[cutmix]")
    assert furthest(one, two) > 1e-3


def test_a_run_resumes_at_another_world_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["update.precision=fp64"]
    whole = trained(tmp_path / "whole", *COMMON, *overrides, techniques=("cutmix",))
    with monkeypatch.context() as patched:
        stopping_after(patched, 23)
        assert trained(tmp_path / "parts", *COMMON, *overrides, techniques=("cutmix",)).code == 75
    resumed = together(tmp_path / "parts", 2, *overrides, "technique=[cutmix]")
    assert furthest(whole, resumed) <= 1e-12


def test_every_overlay_agrees_in_one_process_and_two(tmp_path: Path) -> None:
    code, err = torchrun(2, str(Path(__file__).with_name("every_overlay.py")), str(tmp_path / "two"))
    assert code == 0, err
    for techniques in OVERLAYS:
        name = "+".join(techniques) or "baseline"
        code, folder = run_overlay(techniques, tmp_path / "one")
        assert code == 0
        one, two = result_in(folder), result_in(tmp_path / "two" / folder.relative_to(tmp_path / "one"))
        assert furthest(one, two) <= 1e-10, name


def test_what_stops_rank_0_stops_all_with_its_line(tmp_path: Path) -> None:
    folder = recipe_of(*COMMON, f"paths.runs={tmp_path}").folder
    folder.mkdir(parents=True)
    with locked(folder):
        code, err = torchrun(2, "-m", "paribus.cli", "train", *COMMON, f"paths.runs={tmp_path}")
    assert code != 0
    assert "paribus: " in err
    assert err.count("is in use by process") == 2, "each rank says so, none waits"
    assert "paribus/cli/training.py" not in err


def test_a_record_that_two_processes_resumed_is_the_undisturbed_one(tmp_path: Path) -> None:
    overrides = ["every.log=20ba", "every.checkpoint=30ba", "technique=[cutmix]", "steps=40ba"]
    whole = together(tmp_path / "whole", 2, *overrides)
    parts = together(tmp_path / "parts", 2, *overrides)
    (parts.folder / "checkpoints" / "step_00000040.pt").unlink()  # as if killed after step 30
    (parts.folder / "DONE").unlink()
    again = together(tmp_path / "parts", 2, *overrides)
    assert again.same_as(whole)
    code, err = torchrun(2, "-m", "paribus.cli", "verify", str(again.folder), "--span=30:")
    assert code == 0, err
    code, err = torchrun(2, "-m", "paribus.cli", "verify", str(again.folder), "--steps=9", "seed=1")
    assert code != 0
    assert err.count("seed: cannot be overridden here") == 2, "each rank says so, none waits"

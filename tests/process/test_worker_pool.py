"""Decoding in every step: what does not decode, who dies, what is left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.image_trees import images, tree
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DeviceContext
from paribus.data.loaders.worker_pool import WorkerPool

HERE = DeviceContext(torch.device("cpu"))


@pytest.fixture(autouse=True)
def _no_workers_of_others() -> None:
    gc.collect()  # a failed test's frames hold on to its loader


def children_gone(within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.01)
    return not multiprocessing.active_children()


def gone(process: int, within: float = 30.0) -> bool:
    """Whether a process that is not our child ends in time."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_decode_fails_the_run_by_name(workers: int, tmp_path: Path) -> None:
    bad = tree(tmp_path) / "train" / "class_1" / "003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    loader = images(tmp_path, workers=workers)(HERE).loader(24, 0)
    with pytest.raises(ConfigError, match=r"train/class_1/003\.png: .*; data\.on_error=skip") as told:
        loader.batch(0)
    assert "\n" not in str(told.value)
    assert "Traceback" in str(told.value.__cause__), "where it came from, for PARIBUS_DEBUG"


def test_the_next_of_its_class_stands_in_for_a_bad_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = images(tree(tmp_path))(HERE).loader(24, 0)
    before = whole.batch(0)
    for name in ("class_1/007.png", "class_1/000.png"):  # the last, whose next is the first, which is bad as well
        (tmp_path / "train" / name).write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (tmp_path / "val" / "class_2" / "002.png").write_bytes(b"")
    after = {n: images(tmp_path, on_error="skip", workers=n)(HERE).loader(24, 0) for n in (0, 2)}
    batches = {n: [loader.batch(step) for step in (0, 1)] for n, loader in after.items()}
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches[0], batches[2], strict=True))
    changed = {
        int(i) for i, a, b in zip(before.ids, before.inputs, batches[0][0].inputs, strict=True) if (a != b).any()
    }
    assert changed == {8, 15}
    assert torch.equal(before.targets, batches[0][0].targets)
    err = capfd.readouterr().err
    assert err.count("train/class_1/007.png: ") == 2, "once for each loader's set"
    assert err.count("replaced by train/class_1/001.png") == 4
    seen = [i for batch in images(tmp_path, on_error="skip")(HERE).splits["val"](4) for i in batch.ids.tolist()]
    assert seen == [i for i in range(15) if i != 12]
    assert "val/class_2/002.png: " in capfd.readouterr().err


def test_workers_draw_nothing_from_the_global_generator_and_end_with_their_loader(tmp_path: Path) -> None:
    loader = images(tree(tmp_path), workers=2)(HERE).loader(6, 0)
    state = torch.get_rng_state()
    loader.batch(0)
    loader.batch(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(multiprocessing.active_children()) == 2
    del loader
    assert children_gone()


@pytest.fixture
def _no_handler_of_torch() -> Iterator[None]:
    """torch's DataLoader leaves one for SIGCHLD, here by another test; it raises wherever the signal arrives."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("_no_handler_of_torch")
def test_a_dead_worker_is_one_line(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    loader = images(tree(tmp_path), workers=1)(HERE).loader(6, 0)
    loader.batch(0)
    assert signal.getsignal(signal.SIGCHLD) == handler
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join(3)
    with pytest.raises(RunFailed, match=r"^data\.workers: worker \(pid.*; often memory") as told:
        [loader.batch(step) for step in range(1, 9)]
    assert "\n" not in str(told.value)
    assert children_gone()
    assert loader.batch(1).ids.shape == (6,), "new workers"


def slow(index: int, wanted: Any) -> int:
    """Takes two minutes unless it is no longer wanted."""
    end = time.monotonic() + (120 if index else 0)
    while wanted() and time.monotonic() < end:
        time.sleep(0.005)
    return index


def test_a_batch_half_made_is_dropped_when_the_run_leaves() -> None:
    ahead = WorkerPool(slow, 2)
    assert ahead.take(0) == 0
    ahead.close()
    assert children_gone()


PROGRAM = """
import os, sys, time, multiprocessing
from paribus.data.loaders.worker_pool import WorkerPool
def slow(index, wanted):
    while wanted() and index:
        time.sleep(0.005)
    return index
ahead = WorkerPool(slow, 2)
ahead.take(0)
print(*(p.pid for p in multiprocessing.active_children()), flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["exit", "SIGKILL"])
def test_no_worker_outlives_its_run(end: str) -> None:
    program = [sys.executable, "-c", PROGRAM, "exit" if end == "exit" else "wait"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 2
        if end != "exit":
            for worker in workers:  # what reaches a whole group of processes is for the run to act on
                os.kill(worker, signal.SIGINT)
                os.kill(worker, signal.SIGTERM)
            time.sleep(0.1)
            assert not any(gone(worker, 0.02) for worker in workers)
            process.kill()
        _, err = process.communicate(timeout=50)
        assert all(gone(worker) for worker in workers)
        assert err == ""
    finally:
        timer.cancel()
        with suppress(ProcessLookupError):
            process.kill()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_cuda_device_gets_the_same_batches(tmp_path: Path) -> None:
    made = images(tree(tmp_path), workers=2)
    place = DeviceContext(torch.device("cuda", 0), world=2, rank=1)
    here, there = (made(replace(place, device=d)).loader(6, 0) for d in (torch.device("cpu"), place.device))
    for step in (0, 1, 7):
        a, b = here.batch(step), there.batch(step)
        assert torch.allclose(a.inputs, b.inputs.cpu(), atol=1e-6)
        everywhere = torch.arange(6)
        assert torch.equal(a.peers(everywhere).ids, b.peers(everywhere.cuda()).ids.cpu())
    seen = [
        torch.cat([x.inputs.cpu() for x in made(replace(HERE, device=d)).splits["val"](4)])
        for d in (HERE.device, place.device)
    ]
    assert torch.allclose(*seen, atol=1e-6)

"""When one rank is gone the other does not wait for it: it ends within 30 s and says why."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAIN = [
    *("train", "experiment=smoke", "steps=1000000ba", "every.log=5ba", "every.checkpoint=20ba"),
    *("runtime.threads=1", "runtime.device=cpu"),
]


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two that train, without torchrun, which would end the one for the other. They have a checkpoint."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "paribus.cli", *TRAIN, f"paths.runs={tmp_path}"],
            env={
                **os.environ,
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/checkpoints/last")):
            assert time.monotonic() < deadline
            assert [process.poll() for process in started] == [None, None]
            time.sleep(0.1)
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def last_words(process: subprocess.Popen[str]) -> str:
    _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    return [line for line in told.splitlines() if line.startswith("paribus")][-1]


@pytest.mark.slow
def test_rank_1_is_killed(ranks: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Its connections close, so that rank 0 gets an error of its own."""
    ranks[1].kill()
    assert "rank 1 is gone" in last_words(ranks[0])
    (marker,) = tmp_path.glob("*/FAILED")
    assert marker.read_text().startswith("rank 1 is gone")


def test_rank_0_is_killed(ranks: list[subprocess.Popen[str]]) -> None:
    ranks[0].kill()
    told = last_words(ranks[1])
    assert told.startswith("paribus [rank 1]: ")
    assert "rank 0 is gone" in told


@pytest.mark.slow
@pytest.mark.parametrize("gone", [0, 1])
def test_a_machine_loses_its_power(gone: int, ranks: list[subprocess.Popen[str]]) -> None:
    """As a process that stands still shows it: nothing closes, nothing comes. gloo would wait for half an hour."""
    ranks[gone].send_signal(signal.SIGSTOP)
    assert f"rank {gone} is gone" in last_words(ranks[1 - gone])

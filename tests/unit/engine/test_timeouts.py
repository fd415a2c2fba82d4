"""Who ends a process first: our watch, which says why, before the backend, which does not."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from helpers.trainings import run
from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.engine import distributed, watch
from paribus.engine.runtime import Runtime
from paribus.engine.timeouts import DUMP_WAIT, DUMP_WAIT_MS, DUMP_WAITS, PATIENCE, nccl_environment
from paribus.engine.world import World

TWO = World(1, 2, 1, 2, "127.0.0.1:29500", "torchrun")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How the process group was joined, which is not."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **kwargs: calls.append({"": backend, **kwargs}))
    monkeypatch.delenv(DUMP_WAIT, raising=False)
    return calls


def test_the_watch_counts_with_the_patience_that_is_checked() -> None:
    counted = watch.SILENCE_LIMIT + 2 * watch.BEAT + watch.GRACE + watch.CLOSING
    assert counted == PATIENCE < Runtime().timeout
    assert 1000 * PATIENCE < DUMP_WAITS * DUMP_WAIT_MS


@pytest.mark.parametrize("seconds", [0, -1, 1, 20, int(PATIENCE)])
def test_a_timeout_before_the_watch_is_refused(seconds: int) -> None:
    with pytest.raises(ConfigError, match=rf"runtime\.timeout: found {seconds}; should be more than 29 seconds"):
        instantiate(Runtime, {"timeout": seconds}, "runtime")
    assert instantiate(Runtime, {"timeout": int(PATIENCE) + 1}, "runtime").timeout > PATIENCE


@pytest.mark.parametrize("found", ["0", "1000", "7250", "-1", "a while", ""])
def test_a_watchdog_that_would_be_faster_is_refused(found: str) -> None:
    with pytest.raises(ConfigError, match=rf"{DUMP_WAIT}: found {found!r} in the environment; .*7251.*; unset it"):
        nccl_environment({DUMP_WAIT: found})


def test_a_watchdog_that_is_slower_stays_so() -> None:
    assert nccl_environment({}) == {DUMP_WAIT: "15000"}
    assert nccl_environment({DUMP_WAIT: "7251"}) == {DUMP_WAIT: "7251"}
    assert nccl_environment({DUMP_WAIT: "60000", "OTHER": "1"}) == {DUMP_WAIT: "60000"}


@pytest.mark.parametrize(("kind", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_the_group_gets_the_timeout(joined: list[dict[str, Any]], kind: str, backend: str, launcher: Any) -> None:
    world = World(1, 2, 1, 2, "127.0.0.1:29500", launcher)
    distributed.init_process_group(world, torch.device(kind), 77)
    (call,) = joined
    assert (call[""], call["timeout"]) == (backend, timedelta(seconds=77))
    assert call.get("rank") == (1 if launcher == "srun" else None)
    assert os.environ.get(DUMP_WAIT) == (str(DUMP_WAIT_MS) if kind == "cuda" else None)


def test_nothing_is_joined_under_a_hasty_watchdog(
    joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DUMP_WAIT, "10")
    with pytest.raises(ConfigError, match=DUMP_WAIT):
        distributed.init_process_group(TWO, torch.device("cuda"), 1800)
    assert not joined
    distributed.init_process_group(TWO, torch.device("cpu"), 1800)  # gloo has no watchdog
    assert joined


def test_a_run_joins_with_the_timeout_of_its_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def join(world: World, device: torch.device, timeout: int) -> None:
        raise InterruptedError(timeout)  # nothing more of the run is wanted

    monkeypatch.setattr(distributed, "init_process_group", join)
    with pytest.raises(InterruptedError, match="333"):
        run(tmp_path, "experiment=smoke", "runtime.timeout=333")

"""No rank waits for one that is gone: each sends heartbeats, and the reason of its failure, through torch's store.

A rank blocked in a collective runs no Python, so no signal handler either; it would wait for a machine without power
as long as the backend's timeout, half an hour. A thread still runs there. Rank 0's watches all ranks, the others' watch
rank 0 and any reported failure; a rank that is silent for SILENCE_LIMIT seconds is gone, and every process ends with a
line that says so, at most PATIENCE seconds after it went and before the backend ends it (timeouts.py). A rank that is
alive but stuck is not noticed here: the others wait for it until runtime.timeout.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from paribus.core.errors import RunFailed, explain_exception
from paribus.engine.distributed import all_sum
from paribus.engine.timeouts import BEAT, CLOSING, GRACE, SILENCE_LIMIT
from paribus.engine.world import World

LEFT_IN_ORDER = 10**12  # more than any count of beats: a rank that ended normally


class RankMonitor:
    """`explain_lost_rank` distinguishes an error caused by another rank's end from one of this rank's own."""

    def __init__(self, world: World, job: int, store: TCPStore | None) -> None:
        self._world, self._job, self._store = world, job, store
        self._leaving, self._found, self._is_awaited = threading.Event(), threading.Event(), threading.Event()
        self._why: str | None = None
        self._last_beats: dict[int, tuple[int, float]] = {}
        self._answered = time.monotonic()
        # two, since a call to a store whose host has no power does not come back
        self._threads = [
            threading.Thread(target=run, name="watch", daemon=True) for run in (self._poll, self._wait_for_failure)
        ]
        if store is not None:
            self._beat(1)
            for thread in self._threads:
                thread.start()

    def explain_lost_rank(self, error: BaseException) -> str | None:
        """Which rank is gone, if that is what this error is about; waits until it is known."""
        text = str(error).lower()
        is_communication_error = isinstance(error, dist.DistError) or any(
            word in text for word in ("gloo", "nccl", "connection closed")
        )
        if self._store is None or not is_communication_error:
            return None
        self._is_awaited.set()
        self._found.wait(SILENCE_LIMIT + 2 * BEAT)
        return self._why

    def leave(self, why: str | None) -> None:
        """Stop watching; report to the others why, or that all is well."""
        self._leaving.set()
        if self._store is None:
            return
        self._threads[0].join(BEAT)
        if self._threads[0].is_alive():  # it waits for a store that does not answer
            return
        with suppress(RuntimeError):  # the store is gone; the others have noticed
            if why is None:
                self._beat(LEFT_IN_ORDER)
            else:
                self._store.compare_set(self._key("failed"), "", f"rank {self._world.rank}: {why}")

    def _poll(self) -> None:
        """Send heartbeats and check the others, until a failure is found or the job is left."""
        while not self._leaving.wait(BEAT) and self._why is None:
            try:
                self._beat(1)
                self._why = self._read_failure() or self._find_silent_rank()
                self._answered = time.monotonic()
            except RuntimeError:
                self._why = _explain_lost_store()

    def _wait_for_failure(self) -> None:
        """Make the process end once a failure is found."""
        while not self._leaving.wait(BEAT / 4):
            if self._why is None and time.monotonic() - self._answered > SILENCE_LIMIT:
                self._why = _explain_lost_store()
            if self._why is not None:
                self._found.set()
                return self._end_process()
        return None

    def _end_process(self) -> None:
        """End the process, unless its main thread does."""
        if self._leaving.wait(GRACE) or (self._is_awaited.is_set() and self._leaving.wait(CLOSING)):
            return
        line = f"paribus [rank {self._world.rank}]: {self._why}; exiting; the last checkpoint is kept\n"
        os.write(sys.stderr.fileno() if sys.stderr else 2, line.encode())
        os._exit(1)

    def _read_failure(self) -> str | None:
        assert self._store is not None
        key = self._key("failed")
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _find_silent_rank(self) -> str | None:
        assert self._store is not None
        now = time.monotonic()
        for rank in range(1, self._world.size) if self._world.is_main else (0,):
            count = self._store.add(self._key(f"beats/{rank}"), 0)
            if count >= LEFT_IN_ORDER or rank not in self._last_beats or self._last_beats[rank][0] != count:
                self._last_beats[rank] = (count, now)
            elif now - self._last_beats[rank][1] > SILENCE_LIMIT:
                why = f"rank {rank} is gone: killed, or its machine is down; silent for {SILENCE_LIMIT:.0f} s"
                self._store.compare_set(self._key("failed"), "", why)
                return why
        return None

    def _beat(self, count: int) -> None:
        assert self._store is not None
        self._store.add(self._key(f"beats/{self._world.rank}"), count)

    def _key(self, name: str) -> str:
        return f"paribus/{self._job}/{name}"


def _explain_lost_store() -> str:
    host = "torchrun" if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else "rank 0"
    return f"{host} is gone, and with it the store through which the ranks communicate"


@contextmanager
def monitor_ranks(world: World, device: torch.device) -> Iterator[RankMonitor]:
    """Watch the ranks during one job of a process in the group. All ranks leave together, so that a launcher which ends
    the others when one has ended interrupts nothing. Raises RunFailed if another rank's end caused the error."""
    if not dist.is_initialized():
        yield RankMonitor(world, 0, None)
        return
    host, _, port = world.master.rpartition(":")
    # a connection of its own: the process group's is taken while a collective waits for it
    store = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE_LIMIT))
    # the jobs of a sweep share a store, and torchrun's outlives a restart
    job = store.add(f"paribus/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/jobs/{world.rank}", 1)
    monitor = RankMonitor(world, job, store)
    try:
        yield monitor
        all_sum(torch.zeros((), device=device)).item()
    except BaseException as error:
        why = None if isinstance(error, RunFailed) else monitor.explain_lost_rank(error)
        monitor.leave(explain_exception(error))
        if why is not None:
            raise RunFailed(why) from error
        raise
    monitor.leave(None)

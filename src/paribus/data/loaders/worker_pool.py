"""Worker processes that make what comes next: torch's DataLoader behind an index, held so that nothing hangs.

`Ahead` gives `make(index)` for whole numbers in turn, made ahead by processes; an index out of turn starts the stream
again there, so what is given depends on the index alone and never on how many processes there are.

What torch leaves to its users, or does differently:
* signals: Ctrl-C and a scheduler's SIGTERM reach every process of a group. The run leaves after its step, so workers
  ignore them until the run itself asks them to end;
* a run that is killed: a thread in each worker waits for its parent's end and leaves at once, where torch looks only
  after the batch in hand and every 5 s;
* leaving: workers drop a batch half made, where torch waits for it, kills it after 5 s, and at interpreter exit waits
  5 s for each;
* a worker that dies: an error where the next batch is asked for, not from a signal handler in the middle of anything;
* the global generator: torch draws a seed for its workers from it, which would change what dropout draws in that step.
"""

import atexit
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from paribus.core.errors import RunFailed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
PREFETCH_FACTOR = 2  # batches that each worker has in hand or ready


class ItemFactory(Protocol[T_co]):
    """Makes the thing with this index, a pure function. Stops early, with any value, once `wanted` says no."""

    def __call__(self, index: int, is_wanted: Callable[[], bool]) -> T_co: ...


class WorkerPool(Generic[T]):
    """`take(index)` is make(index). count: worker processes, started by the first `take`; 0 makes it here and now.

    make and what it holds go to the workers by fork where there is fork, else by pickle. pinned: tensors come in
    page-locked memory, for copies to CUDA that nobody waits for.
    """

    def __init__(self, make: ItemFactory[T], count: int, pinned: bool = False) -> None:
        self._make, self._count, self._pinned = make, count, pinned
        self._running: _RunningWorkers[T] | None = None

    def take(self, index: int) -> T:
        """Raises RunFailed if a worker has died."""
        if not self._count:
            return self._make(index, _always)
        if self._running is None:
            self._running = _RunningWorkers(self._make, self._count, self._pinned)
            weakref.finalize(self, self._running.close).atexit = False  # at exit the team's own comes first
        try:
            return self._running.take(index)
        except RuntimeError as error:
            self.close()
            text = " ".join(str(error).split())
            if not text.startswith("DataLoader worker (pid"):
                raise
            raise RunFailed(
                f"data.workers: {text.removeprefix('DataLoader ').rstrip('. ')}; often memory or /dev/shm has run out: "
                "fewer workers take less, data.workers=0 none"
            ) from error

    def close(self) -> None:
        """End the workers. A later `take` starts new ones."""
        if self._running is not None:
            self._running.close()
            self._running = None


def allocate_buffer(*shape: int) -> Tensor:
    """An uninitialised uint8 tensor; in a worker already in the memory that it shares with the run, so that what is
    written there is not copied on its way."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    size = max(1, torch.Size(shape).numel())
    storage = torch.UntypedStorage._new_shared(size)  # as torch's own collate does
    return torch.empty(0, dtype=torch.uint8).set_(storage)[: torch.Size(shape).numel()].view(shape)


class _RunningWorkers(Generic[T]):
    """Running workers and the stream of indices they are at."""

    def __init__(self, make: ItemFactory[T], count: int, pinned: bool) -> None:
        method = "fork" if sys.platform == "linux" else None  # elsewhere, and by default since 3.14, workers import all
        context: Any = multiprocessing.get_context(method)
        self._is_closing = context.RawValue(ctypes.c_bool, False)
        self._sampler = _IndexSampler()
        self._loader: _QuietDataLoader[T] | None = _QuietDataLoader(
            _IndexedDataset(make, self._is_closing),  # pyright: ignore[reportArgumentType]
            batch_size=None,
            sampler=self._sampler,
            num_workers=count,
            collate_fn=_identity,
            pin_memory=pinned,
            worker_init_fn=_WorkerInit(self._is_closing),
            multiprocessing_context=context,
            generator=torch.Generator(),
            prefetch_factor=PREFETCH_FACTOR,
            persistent_workers=True,
        )
        self._stream: Iterator[T] | None = None
        self._next = 0

    def take(self, index: int) -> T:
        if self._stream is None or index != self._next:
            self._sampler.start = index
            assert self._loader is not None
            first = self._stream is None
            with _signals_blocked():
                self._stream = iter(self._loader)
            if first:
                atexit.register(self.close)  # after torch's own, so it runs before them
        self._next = index + 1
        return next(self._stream)

    def close(self) -> None:
        self._is_closing.value = True
        with suppress(RuntimeError):  # a worker that is dead already
            self._stream = self._loader = None  # the iterator's __del__ ends the workers
        atexit.unregister(self.close)


_RUN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """While workers start: signals wait until a worker has said what it does with them (_Begin), and torch's handler of
    ended children, which raises wherever the run is, does not stay; `take` finds out within 5 s."""
    ended = signal.getsignal(signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _RUN_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, ended)


class _QuietDataLoader(DataLoader[T]):
    """torch's, without its warning about more workers than cores."""

    def check_worker_number_rationality(self) -> None:
        return


class _IndexSampler:
    """An endless stream of indices from `start`, read when torch starts it (again)."""

    start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


class _IndexedDataset(Generic[T]):
    """What torch calls a dataset: one index, one whole batch."""

    def __init__(self, make: ItemFactory[T], is_closing: Any) -> None:
        self._make, self._is_closing = make, is_closing

    def __getitem__(self, index: int) -> T:
        return self._make(index, lambda: not self._is_closing.value)


class _WorkerInit:
    """What a worker does first."""

    def __init__(self, is_closing: Any) -> None:
        self._is_closing = is_closing

    def __call__(self, worker: int) -> None:
        for number in _RUN_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # torch ends with SIGTERM what does not end in 5 s
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if self._is_closing.value else None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _RUN_SIGNALS)
        threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _identity(item: T) -> T:
    return item


def _always() -> bool:
    return True

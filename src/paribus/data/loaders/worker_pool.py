"""Worker processes that prefetch items by index: torch's DataLoader, wrapped so that nothing hangs.

`WorkerPool.take` returns `make(index)` for consecutive indices, prefetched by workers; an index out of turn restarts
the stream there, so results depend on the index alone and never on the number of workers.

Where torch leaves it to its users, or does otherwise:
* signals: Ctrl-C and a scheduler's SIGTERM reach every process of a group. The run stops after its step, so workers
  ignore them until the run itself ends them;
* a killed run: a thread in each worker waits for its parent's end and exits at once, where torch checks only after the
  current batch and every 5 s;
* shutdown: workers drop a half-made batch, where torch waits for it, kills the worker after 5 s, and at interpreter
  exit waits 5 s for each;
* a dead worker: an error where the next batch is taken, not from a signal handler in the middle of anything;
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
PREFETCH_FACTOR = 2  # batches that each worker has in progress or ready


class ItemFactory(Protocol[T_co]):
    """Makes the item with this index, a pure function. Stops early, with any value, once `is_wanted` returns False."""

    def __call__(self, index: int, is_wanted: Callable[[], bool]) -> T_co: ...


class WorkerPool(Generic[T]):
    """`take(index)` is make(index). count: worker processes, started by the first `take`; 0 makes it in this process.

    make and what it holds go to the workers by fork on Linux, else by pickle. pinned: tensors come in pinned memory,
    for asynchronous copies to CUDA.
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
            weakref.finalize(self, self._running.close).atexit = False  # at exit its own handler comes first
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
    """An uninitialised uint8 tensor; in a worker already in shared memory, so that it reaches the run without a
    copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    size = max(1, torch.Size(shape).numel())
    storage = torch.UntypedStorage._new_shared(size)  # as torch's own collate does
    return torch.empty(0, dtype=torch.uint8).set_(storage)[: torch.Size(shape).numel()].view(shape)


class _RunningWorkers(Generic[T]):
    """Running workers and their current stream of indices."""

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
    """While workers start: signals wait until a worker has set its handlers (_WorkerInit), and torch's handler of ended
    children, which raises wherever the run is, is removed again; `take` notices a dead worker within 5 s."""
    ended = signal.getsignal(signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _RUN_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, ended)


class _QuietDataLoader(DataLoader[T]):
    """torch's DataLoader, without its warning about more workers than cores."""

    def check_worker_number_rationality(self) -> None:
        return


class _IndexSampler:
    """An endless stream of indices from `start`, read when torch starts it (again)."""

    start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


class _IndexedDataset(Generic[T]):
    """A torch dataset whose items are whole batches."""

    def __init__(self, make: ItemFactory[T], is_closing: Any) -> None:
        self._make, self._is_closing = make, is_closing

    def __getitem__(self, index: int) -> T:
        return self._make(index, lambda: not self._is_closing.value)


class _WorkerInit:
    """Runs first in each worker."""

    def __init__(self, is_closing: Any) -> None:
        self._is_closing = is_closing

    def __call__(self, worker: int) -> None:
        for number in _RUN_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # torch sends SIGTERM to a worker that does not end within 5 s
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

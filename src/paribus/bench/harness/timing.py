"""Times callables in turns, so that whatever else the machine does affects all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from paribus.core.streams import stream

Call = Callable[[], object]
Session = Callable[[], AbstractContextManager[object]]
Clock = Callable[[Call, int], float]  # seconds for this many calls in a row

WARM_UP = 2
MAX_CALLS = 1000


def host_clock(call: Call, times: int) -> float:
    """Wall-clock time, for work that is done when the call returns."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def cuda_clock(device: torch.device) -> Clock:
    """Time between two events on the device's stream. It includes the host's time where the device waits for the
    host."""

    def clock(call: Call, times: int) -> float:
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            for _ in range(times):
                call()
            end.record()
            end.synchronize()
        return start.elapsed_time(end) / 1e3

    return clock


def make_clock(device: torch.device) -> Clock:
    return cuda_clock(device) if device.type == "cuda" else host_clock


def time_interleaved(
    calls: Mapping[str, Call],
    clock: Clock,
    rounds: int,
    min_seconds: float,
    sessions: Mapping[str, tuple[Session, int]] | None = None,
) -> dict[str, tuple[float, ...]]:
    """Seconds per call, one sample of each callable in each round; entry r of all of them is from round r.

    The order changes every round, so that none always runs after the same one. A sample is as many calls as last
    `min_seconds`, found after warm-up. Garbage is collected before the first round, not between rounds. sessions: a
    context entered around a callable's samples, and their minimum number of calls.
    """
    default_session: tuple[Session, int] = (nullcontext, 1)
    session = {name: (sessions or {}).get(name, default_session) for name in calls}
    times: dict[str, int] = {}
    for name, call in calls.items():
        enter, min_calls = session[name]
        with enter():
            times[name] = _choose_call_count(call, clock, min_seconds, min_calls)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    with _garbage_collection_disabled():
        for round_ in range(rounds):
            for i in torch.randperm(len(names), generator=stream(0, "bench order", round_)).tolist():
                name = names[i]
                with session[name][0]():
                    samples[name].append(clock(calls[name], times[name]) / times[name])
    return {name: tuple(found) for name, found in samples.items()}


def _choose_call_count(call: Call, clock: Clock, min_seconds: float, min_calls: int) -> int:
    clock(call, WARM_UP)
    each = clock(call, min_calls) / min_calls
    return min(MAX_CALLS, max(min_calls, math.ceil(min_seconds / max(each, 1e-9))))


@contextmanager
def _garbage_collection_disabled() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def peak_bytes(call: Call, device: torch.device) -> int | None:
    """Peak device memory of one call beyond what is allocated before it; None without CUDA."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before

"""On CUDA, the next batch is made while a step runs: copied and augmented on a stream of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.protocols import Loader


@dataclass(frozen=True)
class _PrefetchedBatch:
    step: int
    batch: Batch
    event: torch.Event | None  # None where there are no streams


class PrefetchLoader:
    """A loader that also makes the batch after the requested one, up to step `total`.

    `batch(step)` is the wrapped loader's, whatever was requested before: after going back, or resuming from a
    checkpoint, nothing is prefetched yet. Costs the memory of one more batch. Without CUDA there is nothing to overlap
    with, and it is a plain cache of one batch.
    """

    def __init__(self, loader: Loader, device: torch.device, total: int) -> None:
        self._loader, self._device, self._total = loader, device, total
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready: _PrefetchedBatch | None = None

    @property
    def steps_per_epoch(self) -> int:
        return self._loader.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """The global batch's part of step `step`, safe to use on the current stream."""
        ready, self._ready = self._ready, None
        if ready is None or ready.step != step:
            ready = self._make(step)
        # queued before the step's own kernels, so that it runs beside them
        self._ready = self._make(step + 1) if step + 1 < self._total else None
        if ready.event is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(ready.event)
            for tensor in (*vars(ready.batch).values(), *ready.batch.also.values()):
                if isinstance(tensor, Tensor):  # its memory may be reused only after the step
                    tensor.record_stream(current)
        return ready.batch

    def _make(self, step: int) -> _PrefetchedBatch:
        if self._stream is None:
            return _PrefetchedBatch(step, self._loader.batch(step), None)
        # the loader's own tensors may have been made, and may be read once more, on the current stream
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            batch = self._loader.batch(step)
            return _PrefetchedBatch(step, batch, self._stream.record_event())

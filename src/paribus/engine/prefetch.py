"""On CUDA, the next batch is made while a step runs: copied and augmented on a stream of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.protocols import Loader


@dataclass(frozen=True)
class _Ready:
    step: int
    batch: Batch
    made: torch.Event | None  # None where there are no streams


class Ahead:
    """A loader that makes the batch after the one asked for as well, up to step `total`.

    `batch(step)` is the wrapped loader's, whatever was asked before: going back, or on from a checkpoint, only finds
    nothing made ahead. Costs the memory of one more batch. Without CUDA there is nothing to overlap with, and it is a
    plain cache of one batch.
    """

    def __init__(self, loader: Loader, device: torch.device, total: int) -> None:
        self._loader, self._device, self._total = loader, device, total
        self._lane = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready: _Ready | None = None

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
        if ready.made is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(ready.made)
            for tensor in vars(ready.batch).values():
                if isinstance(tensor, Tensor):  # its memory may go to another batch only when the step is through
                    tensor.record_stream(current)
        return ready.batch

    def _make(self, step: int) -> _Ready:
        if self._lane is None:
            return _Ready(step, self._loader.batch(step), None)
        # the loader's own tensors may have been made, and may be read once more, on the current stream
        self._lane.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._lane):
            batch = self._loader.batch(step)
            return _Ready(step, batch, self._lane.record_event())

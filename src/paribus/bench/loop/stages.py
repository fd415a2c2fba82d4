"""Where a step's time goes: the parts of training, each wrapped so that its seconds are summed.

Each wrapper fills the slot of what it wraps, so the loop and the method are the real ones, unmodified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.protocols import Loader, Objective, OptimizerFactory, ParameterGroup, Tracker, Transform, Update

PARTS = ("data", "transforms", "forward", "backward", "optimizer", "record")


class StageTimer:
    """Seconds in each part. On CUDA every part ends with a synchronisation, so nothing overlaps while it is timed."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = self.read_clock()
        try:
            yield
        finally:
            self.add(part, self.read_clock() - start)

    def add(self, part: str, seconds: float) -> None:
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds

    def read_clock(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def pop_seconds(self) -> dict[str, float]:
        """Seconds in each of PARTS since the last call. What is in the update but neither forward nor optimizer is
        backward, with the clearing of gradients."""
        found, self._seconds = self._seconds, {}
        found["backward"] = found.pop("update", 0.0) - found.get("forward", 0.0) - found.get("optimizer", 0.0)
        return {part: found.get(part, 0.0) for part in PARTS}


@dataclass(frozen=True)
class TimedLoader:
    stages: StageTimer
    loader: Loader

    @property
    def steps_per_epoch(self) -> int:
        return self.loader.steps_per_epoch

    def batch(self, step: int) -> Batch:
        with self.stages.measure("data"):
            return self.loader.batch(step)


@dataclass(frozen=True)
class TimedTransform:
    stages: StageTimer
    transform: Transform

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        with self.stages.measure("transforms"):
            return self.transform(batch, at)


@dataclass(frozen=True)
class TimedObjective:
    stages: StageTimer
    objective: Objective

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        with self.stages.measure("forward"):
            return self.objective(model, batch, at)


@dataclass(frozen=True)
class TimedOptimizer:
    """A factory whose optimizers' steps are timed."""

    stages: StageTimer
    factory: OptimizerFactory

    @property
    def decay(self) -> str:
        return self.factory.decay

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        optimizer, started = self.factory(groups), [0.0]

        def before(*_: Any) -> None:
            started[0] = self.stages.read_clock()

        def after(*_: Any) -> None:
            self.stages.add("optimizer", self.stages.read_clock() - started[0])

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return optimizer


@dataclass(frozen=True)
class TimedUpdate:
    stages: StageTimer
    update: Update

    @property
    def dtype(self) -> torch.dtype:
        return self.update.dtype

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        return self.update.scaler(device)

    def __call__(
        self,
        loss_of: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]],
        batch: Batch,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> dict[str, Tensor]:
        with self.stages.measure("update"):
            return self.update(loss_of, batch, model, optimizer, scaler)


@dataclass(frozen=True)
class TimedTracker:
    stages: StageTimer
    tracker: Tracker

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self.stages.measure("record"):
            self.tracker.log(step, values)

    def close(self, summary: Mapping[str, Any]) -> None:
        self.tracker.close(summary)

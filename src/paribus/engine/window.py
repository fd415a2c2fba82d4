"""Metrics since the last log line: sums on the device, and the clocks. The host waits for the device only in `flush`,
`check` and `state_dict`."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from paribus.core.errors import RunFailed
from paribus.engine.distributed import World, all_gather, all_sum
from paribus.engine.throughput import ThroughputWatch


class MetricAccumulator:
    """Running sums of the metrics of some steps. Its state goes into checkpoints, so no half-summed window is lost."""

    def __init__(self, world: World, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self._world, self._device, self._clock = world, device, clock
        self._sums: dict[str, Tensor] = {}
        self._newest: list[dict[str, Tensor | float]] = []  # metrics of steps that are not in the sums yet
        self._plain: dict[str, float] = {}
        self._count, self._samples = 0, 0
        self._recorded = 0
        self._train_s, self._eval_s, self._window_s = 0.0, 0.0, 0.0
        self._since = clock()
        self._watch = ThroughputWatch()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def add(self, metrics: dict[str, Tensor | float], samples: int) -> None:
        """Tensors are averaged over the window; of plain numbers (the learning rate) the latest is reported."""
        self._newest.append(metrics)  # to add them up here would cost the smallest net's step more than 1 %
        self._count += 1
        self._samples += samples

    def flush(self, step: int) -> dict[str, float]:
        """The means over the window and all ranks. Raises RunFailed if one is not finite."""
        means = self._means(step)
        self._tick()
        values = {
            **means,
            **self._plain,
            "throughput/samples_per_sec": self._samples / max(self._window_s, 1e-9),
            "memory/peak_gb": self._peak_gb(),
            "time/train_s": self._train_s,
            "time/eval_s": self._eval_s,
        }
        slower = self._watch.add(self._samples, self._window_s)
        if slower and self._world.is_main:
            with suppress(OSError):  # training goes on where nobody can be told
                print(f"warning: {slower}", file=sys.stderr)
        self._sums, self._count, self._samples, self._window_s = {}, 0, 0, 0.0
        return values

    def check(self, step: int) -> None:
        """Raises RunFailed if a loss since the last flush was not finite. Training time ends here: the device has
        finished."""
        self._means(step)
        self._tick()

    def end_evaluation(self) -> dict[str, float]:
        """The time since `check` was evaluation, not training; returns all of it so far."""
        now = self._clock()
        self._eval_s += now - self._since
        self._since = now
        return {"time/eval_s": self._eval_s}

    def count_recorded_line(self) -> None:
        """A line was added to the record. A checkpoint stores how many there were, so that a lost record is noticed."""
        self._recorded += 1

    def restart_clock(self) -> None:
        """The time since `check` counts as neither (a checkpoint was written)."""
        self._since = self._clock()

    def state_dict(self) -> dict[str, Any]:
        self._add_up()
        each = all_gather(torch.stack(list(self._sums.values()))) if self._sums else torch.empty(self._world.size, 0)
        return {
            "sums": dict(zip(self._sums, each.unbind(1), strict=True)),  # of every rank
            "plain": dict(self._plain),
            "counts": [self._count, self._samples],
            "recorded": self._recorded,
            "seconds": [self._train_s, self._eval_s, self._window_s],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        sums = {name: value.to(self._device) for name, value in state["sums"].items()}
        same = all(len(value) == self._world.size for value in sums.values())
        # at another world size no rank has its own sums back; all take the mean, which adds up to the same
        self._sums = {name: value[self._world.rank] if same else value.mean(0) for name, value in sums.items()}
        self._plain = dict(state["plain"])
        self._count, self._samples = state["counts"]
        self._recorded = state.get("recorded", 0)
        self._train_s, self._eval_s, self._window_s = state["seconds"]
        self._since = self._clock()

    def _tick(self) -> None:
        now = self._clock()
        self._train_s += now - self._since
        self._window_s += now - self._since
        self._since = now

    def _add_up(self) -> None:
        """Add the newest steps to the sums, one after the other in float64, so that the log interval changes no bit."""
        for name in {name: None for metrics in self._newest for name in metrics}:
            values = [metrics[name] for metrics in self._newest if name in metrics]
            tensors = [value for value in values if isinstance(value, Tensor)]
            if not tensors:
                self._plain[name] = values[-1]  # pyright: ignore[reportArgumentType]
                continue
            rows = torch.stack(tensors).double().tolist()
            total = self._sums[name].tolist() + rows[0] if name in self._sums else rows[0]
            for row in rows[1:]:
                total += row
            self._sums[name] = torch.tensor(total, dtype=torch.float64, device=self._device)
        self._newest = []

    def _means(self, step: int) -> dict[str, float]:
        self._add_up()
        if not self._sums:
            return {}
        stacked = all_sum(torch.stack(list(self._sums.values()))) / (self._count * self._world.size)
        means = dict(zip(self._sums, stacked.tolist(), strict=True))
        if not torch.isfinite(stacked).all():
            raise RunFailed(f"the loss is not finite between steps {step - self._count + 1} and {step}: {means}")
        return means

    def _peak_gb(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e9
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

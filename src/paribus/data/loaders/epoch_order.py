"""Which samples the batch of a step holds: one rule for datasets in memory and for those decoded in every step."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.streams import stream


def epoch_order(n: int, seed: int, epoch: int, repeats: int = 1) -> tuple[Tensor, Tensor | None]:
    """The n positions of an epoch: rows (n,) int64 of the training set, and which copy of its sample each one is, or
    None if none is repeated.

    A fresh permutation each epoch. With repeats > 1 (repeated augmentation: Hoffer et al. 2019, as in DeiT) each sample
    appears `repeats` times in a row, each time augmented anew; an epoch keeps its n positions, so it holds n / repeats
    of the samples. Copies of a sample may continue in the next batch, as in DeiT's sampler.
    """
    rows = torch.randperm(n, generator=stream(seed, "order", epoch))
    if repeats == 1:
        return rows, None
    places = torch.arange(n)
    return rows[places // repeats], places % repeats


@dataclass(frozen=True)
class BatchIndex:
    """Maps a step to the samples of its global batch: each epoch's order, cut into full batches. An incomplete last
    batch is dropped.

    n: training samples. batch_size: of the global batch, of which each of `world` processes makes an equal share.
    Raises ConfigError if the batch is larger than the set, or has no equal shares.
    """

    n: int
    seed: int
    repeats: int
    batch_size: int
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch_size > self.n:
            raise ConfigError(f"batch_size: found {self.batch_size}; there are only {self.n} training images")
        if self.batch_size % self.world:
            raise ConfigError(
                f"batch_size: found {self.batch_size}; it must be a multiple of the {self.world} processes"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.n // self.batch_size

    def share(self, rank: int) -> slice:
        """The positions of a process in every global batch."""
        size = self.batch_size // self.world
        return slice(rank * size, (rank + 1) * size)

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and where in its order the step's batch begins."""
        epoch, k = divmod(step, self.steps_per_epoch)
        return epoch, k * self.batch_size

    def order(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """`epoch_order` of an epoch, on the CPU. The last one is cached, for speed only."""
        known = self._cache.get("last")
        if known is None or known[0] != epoch:
            known = (epoch, epoch_order(self.n, self.seed, epoch, self.repeats))
            self._cache["last"] = known  # as one tuple, so that no thread sees half of it
        return known[1]

    def samples_at(self, step: int, positions: Tensor) -> tuple[int, Tensor, Tensor | None]:
        """The epoch of a step, and rows and copies at these positions (CPU) of its global batch."""
        epoch, start = self.locate(step)
        rows, copies = self.order(epoch)
        here = positions + start
        return epoch, rows[here], None if copies is None else copies[here]

    @cached_property
    def _cache(self) -> dict[str, Any]:
        return {}

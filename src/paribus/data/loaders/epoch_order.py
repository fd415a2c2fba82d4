"""Which samples the batch of a step holds: one rule for datasets in memory and for those decoded in every step."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.streams import stream

Sampling = Literal["shuffle", "balanced"]


def epoch_order(
    n: int, seed: int, epoch: int, repeats: int = 1, targets: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The n positions of an epoch: rows (n,) int64 of the training set, and which copy of its sample each one is, or
    None if none is repeated.

    A fresh permutation each epoch; or with targets, (n,) int64 labels, classes equally often (`balanced_order`). With
    repeats > 1 (repeated augmentation: Hoffer et al. 2019, as in DeiT) each sample
    appears `repeats` times in a row, each time augmented anew; an epoch keeps its n positions, so it holds n / repeats
    of the samples. Copies of a sample may continue in the next batch, as in DeiT's sampler.
    """
    places = torch.arange(n)
    if targets is not None:
        rows, copies = balanced_order(targets, -(-n // repeats), seed, epoch)
        return rows[places // repeats], copies[places // repeats] * repeats + places % repeats
    rows = torch.randperm(n, generator=stream(seed, "order", epoch))
    if repeats == 1:
        return rows, None
    return rows[places // repeats], places % repeats


def balanced_order(targets: Tensor, m: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """m samples in random order, every class that has any equally often: rows (m,) int64 of the training set, and which
    copy of its sample each one is.

    Classes differ by one at most, where m is no multiple of their number; which have one more is drawn anew in each
    epoch. Within a class so do the samples: all of them come once before one comes again, so a small class is repeated
    and of a large one another part is seen in each epoch. targets: (n,) int64 labels.
    """
    classes, counts = targets.unique(return_counts=True)
    k = len(classes)
    shares = torch.full((k,), m // k)
    shares[torch.randperm(k, generator=stream(seed, "balanced.remainder", epoch))[: m % k]] += 1
    rows, copies = list[Tensor](), list[Tensor]()
    of_class = targets.argsort(stable=True).split(counts.tolist())
    for label, members, share in zip(classes.tolist(), of_class, shares.tolist(), strict=True):
        order = members[torch.randperm(len(members), generator=stream(seed, "balanced.class", epoch, label))]
        places = torch.arange(share)
        rows.append(order[places % len(order)])
        copies.append(places // len(order))
    shuffled = torch.randperm(m, generator=stream(seed, "order", epoch))
    return torch.cat(rows)[shuffled], torch.cat(copies)[shuffled]


@dataclass(frozen=True)
class BatchIndex:
    """Maps a step to the samples of its global batch: each epoch's order, cut into full batches. An incomplete last
    batch is dropped.

    n: training samples. batch_size: of the global batch, of which each of `world` processes makes an equal share.
    targets: the samples' labels, (n,) int64, for balanced classes; None: each sample once. Raises ConfigError if the
    batch is larger than the set, or has no equal shares.
    """

    n: int
    seed: int
    repeats: int
    batch_size: int
    world: int = 1
    targets: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size > self.n:
            fits = self.world << max(0, (self.n // 2 // self.world).bit_length() - 1)  # two batches or more an epoch
            advice = f"; lower it, e.g. batch_size={fits}" if fits <= self.n else ""
            raise ConfigError(f"batch_size: found {self.batch_size}; there are only {self.n} training images{advice}")
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
            known = (epoch, epoch_order(self.n, self.seed, epoch, self.repeats, self.targets))
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

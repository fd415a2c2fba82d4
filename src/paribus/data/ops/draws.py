"""What is drawn for the samples of a batch: numbers that belong to a sample and a name, and to nothing else."""

from dataclasses import dataclass

from torch import Tensor

from paribus.core.batch import named
from paribus.core.streams import key64, uniform_from
from paribus.data.ops.native import drawn, kernels


@dataclass(frozen=True)
class Draws:
    """Numbers in [0, 1) of a batch's samples, by name: a pure function of (seed, name, epoch, sample, copy).

    ids: (b,) int64 indices of the samples in the full training set of their source, on any device.
    copies: (b,) int64, which repetition of its sample each one is (repeated augmentation); None for none.
    """

    seed: int
    epoch: int
    ids: Tensor
    copies: Tensor | None = None

    def __call__(self, name: str, n: int) -> Tensor:
        """(b, n) float32 on the ids' device. Two augmentations never share a name."""
        ids, key = named(self.ids, self.copies), key64(self.seed, f"augment.{name}", self.epoch)
        return drawn(key, ids, n) if ids.is_cpu and kernels() is not None else uniform_from(key, ids, n)

"""Random numbers for the samples of a batch: each depends on its sample and a name, and on nothing else."""

from dataclasses import dataclass

from torch import Tensor

from paribus.core.batch import unique_sample_ids
from paribus.core.streams import key64, uniform_from_key
from paribus.data.ops.native import draw_uniform, load_kernels


@dataclass(frozen=True)
class SampleRandom:
    """Random numbers in [0, 1) for a batch's samples, by name: a pure function of (seed, name, epoch, sample, copy).

    ids: (b,) int64 indices of the samples in the full training set of their source, on any device.
    copies: (b,) int64, which repetition of its sample each one is (repeated augmentation); None for none.
    """

    seed: int
    epoch: int
    ids: Tensor
    copies: Tensor | None = None

    def __call__(self, name: str, n: int) -> Tensor:
        """(b, n) float32 on the ids' device. Two augmentations never share a name."""
        ids, key = unique_sample_ids(self.ids, self.copies), key64(self.seed, f"augment.{name}", self.epoch)
        return draw_uniform(key, ids, n) if ids.is_cpu and load_kernels() is not None else uniform_from_key(key, ids, n)

"""Random numbers for the samples of a batch: each depends on its sample and a name, and on nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.core.batch import unique_sample_ids
from paribus.core.streams import key64, uniform_from_key
from paribus.data.ops.native import draw_uniform, load_kernels
from paribus.data.ops.transfer import to_device

OF_LOADERS = ("crop_and_flip", "flip", "resized_crop")  # names that no augmentation may have (recipe/equal_draws.py)


@dataclass(frozen=True)
class SampleRandom:
    """Random numbers in [0, 1) for a batch's samples, by name: a pure function of (seed, name, epoch, sample, copy).

    ids: (b,) int64 indices of the samples in the full training set of their source, on any device. Loaders have them on
    the CPU, so that the host knows what is drawn for which image and nothing else is computed on a GPU.
    copies: (b,) int64, which repetition of its sample each one is (repeated augmentation); None for none.
    device: where the numbers are wanted; None: where the ids are.
    """

    seed: int
    epoch: int
    ids: Tensor
    copies: Tensor | None = None
    device: torch.device | None = None

    def __call__(self, name: str, n: int) -> Tensor:
        """(b, n) float32 on `device`. Two augmentations never share a name."""
        return to_device(self.device or self.ids.device, self.beside_ids(name, n))[0]

    def beside_ids(self, name: str, n: int) -> Tensor:
        """The same numbers on the ids' device, for what the host decides if it knows the ids."""
        ids, key = unique_sample_ids(self.ids, self.copies), key64(self.seed, f"augment.{name}", self.epoch)
        return draw_uniform(key, ids, n) if ids.is_cpu and load_kernels() is not None else uniform_from_key(key, ids, n)

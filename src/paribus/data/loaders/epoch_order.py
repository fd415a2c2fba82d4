"""Which sample stands where in an epoch: the one place that says so, for sets in memory and folders alike."""

import torch
from torch import Tensor

from paribus.core.streams import stream


def epoch_order(n: int, seed: int, epoch: int, repeats: int = 1) -> tuple[Tensor, Tensor | None]:
    """The n places of an epoch: rows (n,) int64 of the training set, and which copy of its sample each one is, or None
    where none is repeated.

    A fresh permutation each epoch. With repeats > 1 (repeated augmentation: Hoffer et al. 2019, as in DeiT) each sample
    stands `repeats` times in a row, each time augmented anew; an epoch keeps its n places, so it holds n / repeats of
    the samples. Copies at the end of a batch may go on in the next one, as in DeiT's sampler.
    """
    rows = torch.randperm(n, generator=stream(seed, "order", epoch))
    if repeats == 1:
        return rows, None
    places = torch.arange(n)
    return rows[places // repeats], places % repeats

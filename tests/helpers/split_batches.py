"""A batch as several processes hold it, and whether transforms make of its parts what they make of the whole."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.progress import Progress

Transform = Callable[[Batch, Progress], Batch]


def in_parts(batch: Batch, parts: int) -> list[Batch]:
    """The batch as `parts` processes hold it: each its own rows, and a way to make any others."""

    def fetch(positions: Tensor) -> Batch:
        rows = {name: getattr(batch, name)[positions] for name in ("inputs", "targets", "ids")}
        return replace(batch, **rows, positions=positions, fetch=fetch)

    return [fetch(positions) for positions in torch.arange(batch.size).chunk(parts)]


def through_all(batch: Batch, at: Progress, *transforms: Transform) -> Batch:
    for transform in transforms:
        batch = transform(batch, at)
    return batch


def same_in_parts(batch: Batch, parts: int, at: Progress, *transforms: Transform) -> bool:
    alone = through_all(batch, at, *transforms)
    made = [through_all(part, at, *transforms) for part in in_parts(batch, parts)]
    inputs, targets = torch.cat([b.inputs for b in made]), torch.cat([b.targets for b in made])
    return torch.equal(inputs, alone.inputs) and torch.equal(targets, alone.targets)

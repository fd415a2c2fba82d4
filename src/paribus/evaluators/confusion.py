"""Which class was taken for which: exact counts over every sample of a split."""

from collections.abc import Iterable

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import RunFailed
from paribus.core.protocols import Predicts


def count_confusion(method: Predicts, batches: Iterable[Batch], classes: int, device: torch.device) -> Tensor:
    """(classes, classes) int64 on the device: row k has the images of class k, by the class that was predicted. The
    sum over ranks is that of all images.

    Of equal scores the lower class counts, as in accuracy. Raises RunFailed if a score is NaN.
    """
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    undecided = torch.zeros((), dtype=torch.int64, device=device)
    for batch in batches:
        scores = method.predict(batch.inputs)
        cells = batch.targets * classes + scores.argmax(1)
        counts.index_add_(0, cells, torch.ones_like(cells))
        undecided += scores.isnan().any(1).sum()
    if n := int(undecided.item()):
        raise RunFailed(f"the network's outputs are NaN for {n:,} images, which are of no class then")
    return counts.view(classes, classes)

"""The loss on training images as they are, unmixed and not augmented: whether a network still learns what it is shown.

`train/loss` cannot say that where a technique mixes images: the loss of mixed targets has a floor of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, metric_sums


@schema
class UnmixedLoss:
    """train/unmixed_loss: mean cross entropy of the plain labels over at most 1,000 training images, evenly spaced in
    the training set and prepared as test images are. Nothing for data without that sample or a method that does not
    predict. batch_size: samples at a time on one rank.
    """

    batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return ("train/unmixed_loss",)

    def __call__(self, method: Any, splits: Mapping[str, Callable[[int], Iterable[Batch]]]) -> Sums:
        sums = Sums()
        if not isinstance(method, Predicts) or "train_sample" not in splits:
            return sums
        for batch in splits["train_sample"](self.batch_size):
            loss = F.cross_entropy(method.predict(batch.inputs).double(), batch.targets, reduction="sum")
            sums = sums + metric_sums("train/unmixed_loss", loss, len(batch.targets))
        return sums

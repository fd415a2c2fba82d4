"""Does a network need what its map points at? Accuracy after the most attributed pixels are erased, beside as many at
random: "remove and classify" of Kim et al., "Keep CALM and Improve Visual Feature Attribution", ICCV 2021, arXiv
2106.07861.

Erased pixels become 0 as inputs, which is the mean of the training images. The better a map finds what the decision
hangs on, the less is recognised without it, and the lower the ratio of the two accuracies.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.capabilities import HasNetwork
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.streams import uniform
from paribus.core.sums import Sums, metric_sums
from paribus.evaluators.accuracy import rank_targets
from paribus.evaluators.maps import Of, check_maps, make_maps
from paribus.evaluators.some_images import check_limit, choose_evenly

KINDS = ("", "_random")


def erase(inputs: Tensor, importance: Tensor, count: int) -> Tensor:
    """Inputs (n, c, h, w) with 0 in the `count` pixels of greatest importance (n, h, w); of equal ones the first."""
    order = importance.flatten(1).argsort(dim=1, descending=True, stable=True)
    gone = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :count], True)
    return inputs.masked_fill(gone.view(len(inputs), 1, *inputs.shape[2:]), 0.0)


def _check_percent(percent: tuple[int, ...]) -> tuple[int, ...]:
    if list(percent) != sorted(set(percent)) or not percent or percent[0] < 1 or percent[-1] > 99:
        raise ValueError("should be rising whole numbers from 1 to 99, such as [10, 30, 50]")
    return percent


@schema
class ErasedPixels:
    """Of each k of `percent`, val/erased_k: top-1 accuracy after the k % of an image's pixels were erased to which the
    map gives most; val/erased_k_random: after as many at random; val/erased_k_ratio: the first over the second, as in
    the paper, below 1 where the map points at what counts; val/erased_k_kept: over the accuracy with none erased,
    val/unerased.

    of: the class whose map is taken, the predicted or the true one. percent: the k's, rounded down to whole pixels.
    seed: of the random pixels, which belong to the image. split: what is reported. limit: at most this many images,
    evenly spaced in the split; null: all. at: always, at each evaluation, or once at the end. batch_size: samples at a
    time on one rank.
    """

    of: Of = "predicted"
    percent: Annotated[tuple[int, ...], AfterValidator(_check_percent)] = (10, 30, 50)
    seed: Annotated[int, Field(ge=0)] = 0
    split: str = "val"
    limit: Annotated[int, Field(ge=1)] | None = None
    at: When = "end"
    batch_size: Annotated[int, Field(ge=1)] = 128

    needs: ClassVar[tuple[type, ...]] = (HasNetwork, Predicts)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {"split": self.split}

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        names = (f"{self._name(k)}{kind}" for k in self.percent for kind in (*KINDS, "_ratio", "_kept"))
        return (f"{self.split}/unerased", *names)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError if no map can be made of the network, or for a limit on a split of unknown size."""
        check_maps(method, context, "evaluators.erased")
        check_limit("erased", self.limit, (self.split,), context)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for batch in choose_evenly(splits, self.split, self.batch_size, self.limit, context):
            scores, maps = make_maps(method.eval_model, batch, self.of)
            sums += _count(f"{self.split}/unerased", scores, batch)
            for name, inputs in self._erase(batch, maps):
                sums += _count(name, method.predict(inputs), batch)
        return sums

    def _erase(self, batch: Batch, maps: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name of the metric, and inputs without these pixels."""
        h, w = batch.inputs.shape[2:]
        drawn = uniform(self.seed, "erased", 0, batch.ids, h * w).view(-1, h, w)
        for k in self.percent:
            for kind, importance in zip(KINDS, (maps, drawn), strict=True):
                yield f"{self._name(k)}{kind}", erase(batch.inputs, importance, k * h * w // 100)

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        found: dict[str, float] = {}
        for k in self.percent:
            name = self._name(k)
            for suffix, other in (("_ratio", f"{name}_random"), ("_kept", f"{self.split}/unerased")):
                right = int(sums.totals[other])
                if right:
                    found[name + suffix] = int(sums.totals[name]) / right
        return found

    def _name(self, k: int) -> str:
        return f"{self.split}/erased_{k}"


def _count(name: str, scores: Tensor, batch: Batch) -> Sums:
    return metric_sums(name, (rank_targets(scores, batch.targets) < 1).sum(), len(batch))

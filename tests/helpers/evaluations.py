"""What an evaluator is told and given, for tests that evaluate without a data set or a trained network."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.evaluation import EvaluationContext, call_evaluator
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.sums import Sums


def plain_context(classes: int, channels: int = 3, side: int = 4, device: str = "cpu") -> EvaluationContext:
    """Of images whose inputs are their pixels."""
    place = DeviceContext(torch.device(device))
    return EvaluationContext(Spec(classes, channels, side, side), place, (0.0,) * channels, (1.0,) * channels)


class LogitTable:
    """A method that predicts logits made beforehand: an image's one pixel says which row. calls: how often it was
    asked."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.calls = logits, 0

    def prepare_eval(self) -> None: ...

    def predict(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.logits[inputs[:, 0, 0, 0].long()]


def table_split(ids: Tensor, targets: Tensor, classes: int, rank: int = 0, world: int = 1) -> Callable[..., Any]:
    """A split of images for a LogitTable, by the rows of `ids`, in this order: the share of a rank."""
    n = len(ids)
    here = slice(n * rank // world, n * (rank + 1) // world)

    def batches(batch_size: int) -> Iterator[Batch]:
        for part, labels in zip(ids[here].split(batch_size), targets[here].split(batch_size), strict=True):
            yield Batch(part[:, None, None, None].float(), labels, part, part, len(part), classes)

    return batches


def total_over_ranks(evaluator: Any, method: Any, shares: list[Any], context: EvaluationContext) -> Sums:
    """What all processes have together, each with its own share of the splits."""
    total = Sums()
    for splits in shares:
        total = total + call_evaluator(evaluator, method, splits, context)
    return total.all_reduce(lambda value: value)

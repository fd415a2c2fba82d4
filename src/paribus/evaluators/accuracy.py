"""Top-1 and top-5 accuracy and mean cross entropy, as exact sums over every sample of a split."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.embeddings import EmbedsBoth
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import Method, Predicts
from paribus.core.sums import Sums, metric_sums


def check_splits(splits: tuple[str, ...]) -> tuple[str, ...]:
    if not splits:
        raise ValueError("should name a split, such as val; evaluators.NAME=null leaves the evaluator out")
    if twice := [split for i, split in enumerate(splits) if split in splits[:i]]:
        raise ValueError(f"{twice[0]} is listed twice")
    return splits


@schema
class Accuracy:
    """acc1, acc5 (fractions, 0–1) and loss on each split. splits: val, minival or both. batch_size: samples at a time
    on one rank.

    acc5 is left out for fewer than 6 classes. The loss is against the hard labels, without smoothing.
    """

    needs: ClassVar[tuple[type, ...]] = (Predicts,)

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return tuple(f"{split}/{name}" for split in self.splits for name in ("acc1", "acc5", "loss"))

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError for a network that gives embeddings, which are no scores of classes."""
        if isinstance(network := getattr(method, "eval_model", None), EmbedsBoth):
            raise ConfigError(
                f"evaluators.accuracy: {type(network).__name__} gives embeddings and no scores of classes; choose "
                "evaluators=[retrieval]"
            )

    def __call__(self, method: Method, splits: Mapping[str, Callable[[int], Iterable[Batch]]]) -> Sums:
        assert isinstance(method, Predicts), "as `needs` says"
        sums = Sums()
        for split in self.splits:
            for batch in splits[split](self.batch_size):
                logits = method.predict(batch.inputs).double()
                sums = sums + _batch_sums(split, logits, batch.targets)
        return sums


def rank_targets(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n,) int64: how many classes come before the true one; 0 is a hit. logits: (n, classes). targets: (n,)."""
    own = logits.gather(1, targets[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    # ties go to the lower class id on every device; written with "not <=" so that a NaN is never a hit
    return torch.where(logits == own, earlier, ~(logits <= own)).sum(1)


def _batch_sums(split: str, logits: torch.Tensor, targets: torch.Tensor) -> Sums:
    n, classes = logits.shape
    rank = rank_targets(logits, targets)
    sums = metric_sums(f"{split}/acc1", (rank < 1).sum(), n)
    if classes > 5:
        sums = sums + metric_sums(f"{split}/acc5", (rank < 5).sum(), n)
    return sums + metric_sums(f"{split}/loss", F.cross_entropy(logits, targets, reduction="sum"), n)

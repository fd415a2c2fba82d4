"""What is minimised. Each objective takes class ids or soft targets, so a transform may mix labels without
any change here.

Class weights multiply what a class contributes, and the mean is over images, as of all losses here: so a batch gives
the same gradient however it is split over processes and parts, and a technique that mixes labels leaves the scale as it
is. torch's cross entropy divides so for soft targets; for class ids it divides by the sum of the batch's weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, Objective


def _check_weights(weights: Any) -> Any:
    if isinstance(weights, tuple) and not any(weights):
        raise ValueError("should have a weight above 0")
    return weights


Smoothing = Annotated[float, Field(ge=0, lt=1)]
ClassWeights = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...] | Literal["balanced"] | None, AfterValidator(_check_weights)
]


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Softmax cross entropy, mean over the n images.

    logits: (n, classes). targets: (n,) class ids or (n, classes) weights that sum to 1. weights: (classes,).
    """
    if weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    return F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="none").mean()


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    threshold: float | None = None,
    sum_classes: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Binary cross entropy of each class by itself, mean over images and classes, or summed over classes.

    logits, targets, weights: as for `cross_entropy`. Smoothing first, then the threshold, both for class ids and for
    mixed targets, as timm's Mixup and BinaryCrossEntropy together do it.
    """
    classes = logits.shape[1]
    if targets.ndim == 1:
        off = smoothing / classes
        targets = torch.full_like(logits, off).scatter_(1, targets[:, None], 1.0 - smoothing + off)
    else:
        targets = targets.to(logits.dtype)
        targets = targets * (1.0 - smoothing) + smoothing / classes if smoothing else targets
    if threshold is not None:
        targets = (targets > threshold).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none" if sum_classes else "mean")
    return loss.sum(1).mean() if sum_classes else loss


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """scikit-learn's class_weight="balanced": n / (k · n_c). Their mean over the n training images is 1.

    >>> balanced_weights([6, 2])
    [0.6666666666666666, 2.0]
    """
    return [sum(counts) / (len(counts) * count) for count in counts]


class _Loss(Protocol):
    @property
    def class_weights(self) -> ClassWeights: ...

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class _Weighted:
    """An objective with its class weights, (classes,), on the device."""

    objective: _Loss
    weights: Tensor

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        logits = _predict(model, batch)
        return self.objective.loss(logits, batch.targets, self.weights.to(logits.dtype)), {}


def _apply(objective: _Loss, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    if objective.class_weights is not None:
        raise ValueError("class_weights: for_data(data, place) makes the objective that has them")
    return objective.loss(_predict(model, batch), batch.targets), {}


def _predict(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch.inputs)
    # log-softmax of half precision loses digits for no gain in time
    return logits.float() if logits.dtype.itemsize < 4 else logits


def _weigh(given: ClassWeights, data: DataSets) -> list[float]:
    """A weight for each class. Raises ConfigError."""
    if given is None:
        return [1.0] * data.spec.classes
    if given != "balanced":
        if len(given) != data.spec.classes:
            raise ConfigError(
                f"objective.class_weights: found {format_count(len(given), 'number')}; the data has "
                f"{data.spec.classes} classes, in this order: {', '.join(data.names[:6]) or 'of their labels'}"
                f"{', …' if len(data.names) > 6 else ''}"
            )
        return list(given)
    if not data.class_counts:
        raise ConfigError(
            "objective.class_weights: found balanced; this data set does not say how many training images its classes "
            "have (DataSets.class_counts); give a number for each class"
        )
    empty = [k for k, count in enumerate(data.class_counts) if not count]
    if empty:
        name = data.names[empty[0]] if data.names else f"#{empty[0]}"
        raise ConfigError(
            f"objective.class_weights: found balanced; the class {name} has no training image and so no weight; give a "
            "number for each class"
        )
    return balanced_weights(data.class_counts)


def _for_data(objective: Any, data: DataSets, place: DeviceContext) -> Objective:
    if objective.class_weights is None:
        return objective
    weights = torch.tensor(_weigh(objective.class_weights, data), dtype=torch.float64)
    return _Weighted(objective, weights.to(place.dtype).to(place.device))


@schema
class CrossEntropy:
    """Softmax cross entropy, mean over samples. smoothing: label smoothing, 0–1 (Szegedy et al. 2016). class_weights: a
    number for each class, or balanced: `balanced_weights` of the training set."""

    smoothing: Smoothing = 0.0
    class_weights: ClassWeights = None

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return cross_entropy(logits, targets, self.smoothing, weights)

    def for_data(self, data: DataSets, place: DeviceContext) -> Objective:
        """This objective with its weights. Raises ConfigError if they do not fit the data's classes."""
        return _for_data(self, data, place)

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return _apply(self, model, batch)


@schema
class BinaryCrossEntropy:
    """A binary problem for each class, as timm's BinaryCrossEntropy (Wightman et al. 2021, arXiv 2110.00476; Touvron et
    al. 2022, arXiv 2204.07118).

    smoothing: label smoothing, 0–1. target_threshold: targets above it are 1, the others 0. sum_classes: summed over
    classes, not averaged. class_weights: of each class's problem, torch's `weight`; as for CrossEntropy.
    """

    smoothing: Smoothing = 0.0
    target_threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    sum_classes: bool = False
    class_weights: ClassWeights = None

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return binary_cross_entropy(logits, targets, self.smoothing, self.target_threshold, self.sum_classes, weights)

    def for_data(self, data: DataSets, place: DeviceContext) -> Objective:
        """This objective with its weights. Raises ConfigError if they do not fit the data's classes."""
        return _for_data(self, data, place)

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return _apply(self, model, batch)

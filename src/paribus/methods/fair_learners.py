"""What a fair method does with groups: weights of samples (label-bias correction) or a penalty (FairHSIC)."""

from collections.abc import Callable
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import BuildContext
from paribus.methods.completion import count_cells, one_hot
from paribus.methods.hsic import gaussian_kernel, unbiased_hsic_within


class Learner(Protocol):
    """What is called in a step. classes, groups: (n,) int64. kept: (n,), 0 for a sample that is left out."""

    def weigh(self, targets: Tensor, groups: Tensor) -> Tensor:
        """(n,): a factor on each sample's gradient. targets: (n,) or (n, classes)."""
        ...

    def observe(self, scores: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> None:
        """Take note of what the network predicts in training."""
        ...

    def penalise(self, features: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> Tensor | None:
        """What is added to the loss of a batch, a scalar. features: (n, d)."""
        ...

    def end_round(self) -> None:
        """An epoch is over."""
        ...

    def describe(self) -> dict[str, Tensor]:
        """Metrics of a step."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class FairLearner(Protocol):
    """A config class that makes a learner. couples_samples: as in core/protocols.py. needs_features: whether `penalise`
    is to be given what the classifier is given."""

    @property
    def couples_samples(self) -> bool: ...

    @property
    def needs_features(self) -> bool: ...

    def make(self, workshop: BuildContext, groups: int) -> Learner: ...


def measure_violations(right: Tensor, seen: Tensor) -> Tensor:
    """(classes, groups) counts of samples that are recognised, and of all, to how much larger a group's rate is than
    its class's: P̂(ŷ = y | y, group) − P̂(ŷ = y | y). All are 0 where equalised odds hold; 0 for an empty cell."""
    rates = right / seen.clamp(min=1)
    overall = right.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    return torch.where(seen > 0, rates - overall, torch.zeros_like(rates))


def correct_labels(multipliers: Tensor) -> Tensor:
    """(classes, groups) multipliers to the weights of samples: their softmax over the classes of each group, times the
    number of classes, so that it is 1 for multipliers of 0. With two classes the softmax is a sigmoid."""
    return multipliers.softmax(0) * len(multipliers)


class LabelBias:
    """Multipliers and counts, (classes, groups) float64, over all ranks."""

    def __init__(self, workshop: BuildContext, groups: int, rate: float) -> None:
        self._rate, self._total, self._dtype = rate, workshop.total, workshop.place.dtype
        self._shape = (workshop.spec.classes, groups)
        self.multipliers, self._right, self._seen = torch.zeros(
            3, *self._shape, dtype=torch.float64, device=workshop.place.device
        ).unbind()
        self._weights = correct_labels(self.multipliers)

    def weigh(self, targets: Tensor, groups: Tensor) -> Tensor:
        """Of mixed targets the mean of the classes' weights, by their shares."""
        if targets.ndim == 1:
            return self._weights[targets, groups].to(self._dtype)
        return (self._weights.T[groups] * targets).sum(1).to(self._dtype)

    @torch.no_grad()
    def observe(self, scores: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> None:
        there = (kept > 0).double()
        hit = there * (scores.argmax(1) == classes)
        both = torch.stack([count_cells(classes, groups, self._shape, part) for part in (hit, there)])
        right, seen = self._total(both)
        self._right, self._seen = self._right + right, self._seen + seen

    def penalise(self, features: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> Tensor | None:
        return None

    @torch.no_grad()
    def end_round(self) -> None:
        self.multipliers = self.multipliers - self._rate * measure_violations(self._right, self._seen)
        self._right, self._seen = torch.zeros_like(self._right), torch.zeros_like(self._seen)
        self._weights = correct_labels(self.multipliers)

    def describe(self) -> dict[str, Tensor]:
        """train/weight_max: the largest weight of a class and group. 1: the correction does nothing."""
        return {"train/weight_max": self._weights.max()}

    def state_dict(self) -> dict[str, Any]:
        return {"multipliers": self.multipliers, "right": self._right, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.multipliers.device
        self.multipliers, self._right, self._seen = (state[k].to(device) for k in ("multipliers", "right", "seen"))
        self._weights = correct_labels(self.multipliers)


@schema
class LabelBiasCorrection:
    """Weights by class and group that undo a bias of the labels, for equalised odds (Jiang & Nachum, "Identifying and
    Correcting Label Bias in Machine Learning", AISTATS 2020, arXiv 1901.04966). A round is an epoch: what the network
    recognised in training, before each step, says where a group's rate is below its class's; its weight there rises.

    rate: how far the multipliers follow the rates in a round, η; 0 is exactly the supervised method.
    """

    rate: Annotated[float, Field(ge=0)] = 1.0

    @property
    def couples_samples(self) -> bool:
        return False

    @property
    def needs_features(self) -> bool:
        return False

    def make(self, workshop: BuildContext, groups: int) -> Learner:
        return LabelBias(workshop, groups, self.rate)


def fair_hsic(
    features: Tensor, groups: Tensor, classes: Tensor, kept: Tensor, shape: tuple[int, int], sigma: float | None
) -> Tensor:
    """The mean over classes of HSIC₁ between features, (n, d), and groups, (n,), among the class's samples: 0 on
    average where features say nothing of the group once the class is known. A class of fewer than 4 samples has 0.

    The kernel of groups is 1 for the same group and 0 for others; that of features is Gaussian.
    """
    same = one_hot(groups, shape[1]) @ one_hot(groups, shape[1]).T
    kernel = gaussian_kernel(features, sigma)
    among = one_hot(classes, shape[0]) * (kept > 0)[:, None]
    each = [unbiased_hsic_within(kernel, same.to(kernel.dtype), among[:, k]) for k in range(shape[0])]
    return torch.stack(each).mean()


class Penalty:
    """FairHSIC of the global batch."""

    def __init__(self, workshop: BuildContext, groups: int, settings: "FairHSIC") -> None:
        self._gathered: Callable[[Tensor], Tensor] = workshop.gathered
        self._settings, self._shape = settings, (workshop.spec.classes, groups)
        self._dependence = torch.zeros((), dtype=workshop.place.dtype, device=workshop.place.device)

    def weigh(self, targets: Tensor, groups: Tensor) -> Tensor:
        return torch.ones_like(self._dependence)

    def observe(self, scores: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> None: ...

    def penalise(self, features: Tensor, classes: Tensor, groups: Tensor, kept: Tensor) -> Tensor | None:
        """In full precision: kernels of distances lose all in half."""
        with torch.autocast(features.device.type, enabled=False):
            wide = features if features.dtype == torch.float64 else features.float()
            facts = self._gathered(torch.stack((classes.double(), groups.double(), kept.double()), 1))
            classes, groups, kept = facts[:, 0].long(), facts[:, 1].long(), facts[:, 2]
            rows = self._gathered(wide)
            dependence = fair_hsic(rows, groups, classes, kept, self._shape, self._settings.sigma)
        self._dependence = dependence.detach()
        return self._settings.weight * dependence if self._settings.weight else None  # 0 · ∞ would be NaN

    def end_round(self) -> None: ...

    def describe(self) -> dict[str, Tensor]:
        """train/hsic: the dependence, without its weight."""
        return {"train/hsic": self._dependence}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@schema
class FairHSIC:
    """A penalty on how much the features depend on the group among the samples of a class, by HSIC₁ (after Quadrianto,
    Sharmanska & Thomas, CVPR 2019, arXiv 1810.05598).

    weight: of the penalty, λ; 0 is exactly the supervised method. sigma: of the Gaussian kernel of features; null: the
    median distance of the batch's.
    """

    weight: Annotated[float, Field(ge=0)] = 100.0
    sigma: Annotated[float, Field(gt=0)] | None = None

    @property
    def couples_samples(self) -> bool:
        return True

    @property
    def needs_features(self) -> bool:
        return True

    def make(self, workshop: BuildContext, groups: int) -> Learner:
        return Penalty(workshop, groups, self)

"""The baselines' optimizers, torch's own, from parameter groups. A technique swaps the class and keeps the settings."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.protocols import ParameterGroup

Decay = Literal["matrices", "all"]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def torch_groups(groups: Sequence[ParameterGroup], weight_decay: float) -> list[dict[str, Any]]:
    """The form torch's optimizers take; a group that does not decay has weight decay 0."""
    return [{"params": list(g.parameters), "weight_decay": weight_decay if g.decays else 0.0} for g in groups]


@schema
class SGD:
    """torch.optim.SGD: momentum with coupled (L2) weight decay. `decay` says which tensors decay (models/groups.py)."""

    lr: Rate = 0.1
    momentum: Fraction = 0.9
    dampening: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nesterov: bool = False
    decay: Decay = "matrices"

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            torch_groups(groups, self.weight_decay),
            lr=self.lr,
            momentum=self.momentum,
            dampening=self.dampening,
            nesterov=self.nesterov,
        )


@schema
class AdamW:
    """torch.optim.AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: Rate = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay: Decay = "matrices"

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(torch_groups(groups, self.weight_decay), lr=self.lr, betas=self.betas, eps=self.eps)

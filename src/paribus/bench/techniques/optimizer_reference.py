"""AdamP and SGDP written once more, straight from the paper and the authors' order of operations.

The bench checks every implementation against this, ours included, so it shares no line with `paribus.techniques`. In
float64, one tensor at a time, with data-dependent branches: slow and plain on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class OptimizerSettings:
    """The settings of all implementations. momentum is SGDP's (with Nesterov), betas are AdamP's."""

    lr: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    eps: float = 1e-8
    delta: float = 0.1
    wd_ratio: float = 0.1


def find_passing_view(weight: Tensor, gradient: Tensor, settings: OptimizerSettings) -> int | None:
    """The number of rows of the first view in which every row is orthogonal to its gradient; None if neither is."""
    if weight.ndim < 2:
        return None
    for rows in (weight.shape[0], 1):
        g, w = gradient.reshape(rows, -1), weight.reshape(rows, -1)
        if F.cosine_similarity(g, w, dim=1, eps=settings.eps).abs().max() < settings.delta / w.shape[1] ** 0.5:
            return rows
    return None


def project_update(
    update: Tensor, weight: Tensor, gradient: Tensor, settings: OptimizerSettings
) -> tuple[Tensor, float]:
    """The update without its component along the weight, and the factor on weight decay."""
    rows = find_passing_view(weight, gradient, settings)
    if rows is None:
        return update, 1.0
    u, w = update.reshape(rows, -1), weight.reshape(rows, -1)
    unit = w / (w.norm(dim=1, keepdim=True) + settings.eps)
    return (u - unit * (unit * u).sum(1, keepdim=True)).reshape(weight.shape), settings.wd_ratio


def adamp_step(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], step: int, s: OptimizerSettings) -> Tensor:
    """The weight after step number `step` (from 1). state: m and v, empty at first; changed in place."""
    (beta1, beta2), zero = s.betas, torch.zeros_like(weight)
    state["m"] = beta1 * state.get("m", zero) + (1 - beta1) * gradient
    state["v"] = beta2 * state.get("v", zero) + (1 - beta2) * gradient**2
    update = state["m"] / ((state["v"] / (1 - beta2**step)).sqrt() + s.eps)
    update, ratio = project_update(update, weight, gradient, s)
    return weight * (1 - s.lr * s.weight_decay * ratio) - s.lr / (1 - beta1**step) * update


def sgdp_step(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], step: int, s: OptimizerSettings) -> Tensor:
    """The same for SGDP with Nesterov momentum; state: the buffer."""
    state["buffer"] = s.momentum * state.get("buffer", torch.zeros_like(weight)) + gradient
    update, ratio = project_update(gradient + s.momentum * state["buffer"], weight, gradient, s)
    return weight * (1 - s.lr * s.weight_decay * ratio / (1 - s.momentum)) - s.lr * update


def adamw_step(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], step: int, s: OptimizerSettings) -> Tensor:
    """AdamW, the floor of AdamP: nothing is projected at delta = 0."""
    return adamp_step(weight, gradient, state, step, _without_projection(s))


def sgd_step(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], step: int, s: OptimizerSettings) -> Tensor:
    """SGD with Nesterov momentum and weight decay added to the gradient, the floor of SGDP."""
    coupled = OptimizerSettings(lr=s.lr, weight_decay=0.0, momentum=s.momentum, delta=0.0)
    return sgdp_step(weight, gradient + s.weight_decay * weight, state, step, coupled)


def _without_projection(s: OptimizerSettings) -> OptimizerSettings:
    return OptimizerSettings(s.lr, s.weight_decay, s.betas, s.momentum, s.eps, 0.0, s.wd_ratio)

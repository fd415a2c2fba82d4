"""The inputs of every form of a projecting step: the rule, options, and parameters whose tensors share one layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paribus.methods.optimizer_parts import collect_with_gradients, compute_dtype, make_step_counter, to_scalar


@dataclass(frozen=True)
class AdamRule:
    """m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  u = m̂ / (√v̂ + eps); nesterov looks ahead: β₁m + (1−β₁)g for m."""

    beta1: float
    beta2: float
    nesterov: bool


@dataclass(frozen=True)
class MomentumRule:
    """b ← μb + (1−dampening)g,  u = b; nesterov: u = g + μb. alias: the projection changes b as well."""

    momentum: float
    dampening: float
    nesterov: bool
    alias: bool


UpdateRule = AdamRule | MomentumRule


@dataclass(frozen=True)
class Options:
    """lr: a number, or a 0-dim tensor. decay: what lr is multiplied by in w ← w(1 − lr·decay·…)."""

    lr: float | Tensor
    decay: float
    delta: float
    wd_ratio: float
    eps: float
    collects_stats: bool  # whether a form should return its ProjectionStats


class ParamTensors(NamedTuple):  # hundreds are made in a step, and a dataclass costs three times as much
    """One parameter's tensors, in the working dtype and the parameter's own strides.

    weight: the parameter itself, or a copy if that is of half precision. states: (m, v) or (b,). step: float32, 0-dim,
    on the parameter's device; None for MomentumRule. axis: which axis counts the channels. is_tested: whether it is
    tested for projection at all. is_dense: whether its elements fill one stretch of memory, in any order of the axes.
    """

    parameter: Tensor
    weight: Tensor
    gradient: Tensor
    states: tuple[Tensor, ...]
    step: Tensor | None
    axis: int
    is_tested: bool
    is_dense: bool


@dataclass(frozen=True)
class ProjectionStats:
    """Of n tensors that were tested: projected through the channel view, through the layer view, and their ‖w‖."""

    channel: Tensor  # (n,) bool
    layer: Tensor  # (n,) bool
    norm: Tensor  # (n,)


def read_options(group: dict[str, Any], decay: float) -> Options:
    delta, wd_ratio, eps = (group[key] for key in ("delta", "wd_ratio", "eps"))
    return Options(to_scalar(group["lr"]), decay, delta, wd_ratio, eps, group["diagnostics"])


def collect_params(
    optimizer: torch.optim.Optimizer, names: tuple[str, ...], counts: bool
) -> list[tuple[dict[str, Any], list[ParamTensors]]]:
    """(group, its parameters' tensors) of all groups. names: of the states. counts: whether steps are counted.

    Raises ValueError for a sparse gradient, before any state is made.
    """
    return [
        (group, [_collect_param(p, optimizer.state[p], names, counts, group) for p in members])
        for group, members in collect_with_gradients(optimizer)
    ]


def _collect_param(
    p: Tensor, state: dict[str, Any], names: tuple[str, ...], counts: bool, group: dict[str, Any]
) -> ParamTensors:
    """Its state is made at the first step, in the parameter's layout."""
    gradient, kind = p.grad, compute_dtype(p.dtype)
    assert gradient is not None
    if state.get(names[-1]) is None:
        if counts:
            state["step"] = make_step_counter(p)
        for name in names:
            state[name] = torch.zeros_like(p, dtype=kind)
    weight = p
    if p.dtype != kind:
        weight, gradient = p.to(kind), gradient.to(kind)
    elif gradient.dtype != kind:
        gradient = gradient.to(kind)
    if group["maximize"]:
        gradient = -gradient
    states = tuple([state[name] for name in names])
    dense = weight.is_contiguous()
    if not dense or not gradient.is_contiguous() or not all([s.is_contiguous() for s in states]):
        gradient = _match_strides(weight, gradient)
        for name, old in zip(names, states, strict=True):
            state[name] = _match_strides(weight, old)
        states = tuple([state[name] for name in names])
        dense = is_dense(weight)
    projects = weight.ndim > 1 and weight.numel() > 0
    return ParamTensors(p, weight, gradient, states, state.get("step"), group["channel_axis"], projects, dense)


def _match_strides(weight: Tensor, x: Tensor) -> Tensor:
    """x in the strides of the weight: a copy if it has others, as after `model.to(memory_format=...)`."""
    return x if x.stride() == weight.stride() else torch.empty_like(weight).copy_(x)


def is_dense(x: Tensor) -> bool:
    """Whether the elements of x fill one stretch of memory, in any order of the axes."""
    if x.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def memory_layout(param: ParamTensors) -> tuple[int, int, int]:
    """(outer, rows, inner): how a dense weight lies in memory, with the channel axis in the middle."""
    rows = param.weight.shape[param.axis]
    inner = param.weight.stride(param.axis) if rows > 1 else param.weight.numel()
    return param.weight.numel() // (rows * inner), rows, inner


def threshold(delta: float, size: int) -> float:
    return delta / math.sqrt(size)

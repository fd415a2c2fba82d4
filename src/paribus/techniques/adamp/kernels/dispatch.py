"""Which form takes a step: the reference, batched operations, or a fused kernel. And telling what a step saw."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from paribus.methods.optimizer_parts import working
from paribus.techniques.adamp.kernels import batched, cpu
from paribus.techniques.adamp.kernels.leaves import Leaf, Options, Rule, Seen, in_memory

# Where torch has the fused kernels that the batched form starts from and where it was tested; others get the reference.
_BATCHED = ("cpu", "cuda", "meta")
Reference = Callable[[Any, Options, Leaf], Seen | None]
Kept = dict[object, Any]


def move(
    optimizer: torch.optim.Optimizer,
    reference: Reference,
    rule: Rule,
    options: Options,
    leaves: list[Leaf],
    group: dict[str, Any],
) -> list[Seen]:
    """One step of a group's leaves. reference: the readable form, for one leaf."""
    kept: Kept = vars(optimizer).setdefault("_kept", {})  # neither saved nor copied with the optimizer
    alike: dict[tuple[str, torch.device, torch.dtype], list[Leaf]] = {}
    for leaf in leaves:
        weight = leaf.weight
        alike.setdefault((_way(leaf, group), weight.device, weight.dtype), []).append(leaf)
    seen: list[Seen] = []
    for (way, _, _), members in alike.items():
        if way == "reference":
            seen += [s for leaf in members if (s := reference(rule, options, leaf)) is not None]
        elif way == "native":
            seen += cpu.move(rule, options, members)
        elif way == "triton":
            from paribus.techniques.adamp.kernels import cuda  # imports triton

            seen += cuda.move(rule, options, members, kept)
        else:
            seen += batched.move(rule, options, members, kept)
    for leaf in leaves:
        if leaf.weight is not leaf.parameter:
            leaf.parameter.copy_(leaf.weight)
    return seen


def _way(leaf: Leaf, group: dict[str, Any]) -> str:
    device = leaf.weight.device.type
    if device not in _BATCHED or not leaf.dense:
        return "reference"
    if group["fused"]:
        if cpu.takes(leaf) and cpu.kernel(leaf.weight.dtype) is not None:
            return "native"
        if (
            device == "cuda"
            and leaf.weight.dtype == torch.float32
            and (not leaf.projects or in_memory(leaf)[0] == 1)
            and _has_triton()
        ):
            return "triton"
    elif group["foreach"] is False:
        return "reference"
    return "batched"


def form(optimizer: torch.optim.Optimizer) -> str:
    """The form that takes most of this optimizer's steps here: native, triton, batched or reference."""
    group = optimizer.param_groups[0]
    weight = group["params"][0]
    if weight.device.type not in _BATCHED or (not group["fused"] and group["foreach"] is False):
        return "reference"
    if group["fused"] and weight.device.type == "cpu" and cpu.kernel(working(weight.dtype)) is not None:
        return "native"
    if group["fused"] and weight.device.type == "cuda" and weight.dtype == torch.float32 and _has_triton():
        return "triton"
    return "batched"


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def told(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Shares of the tested tensors that the last step projected, by view, and the mean ‖w‖ of those before it.

    Numbers without axes, 0 where no tensor was tested or projected, and before the first step. Empty if no group has
    diagnostics=True.
    """
    if not any(group["diagnostics"] for group in optimizer.param_groups):
        return {}
    device = optimizer.param_groups[0]["params"][0].device
    seen: list[Seen] = vars(optimizer).get("_seen", [])
    if not seen:
        nothing = torch.zeros((), device=device)
        return {f"{prefix}/{name}": nothing for name in ("projected_channel", "projected_layer", "weight_norm")}
    channel, layer, norm = (
        torch.cat([x.to(device, torch.float32) for x in xs])
        for xs in (_of(seen, "channel"), _of(seen, "layer"), _of(seen, "norm"))
    )
    projected = channel + layer
    return {
        f"{prefix}/projected_channel": channel.mean(),
        f"{prefix}/projected_layer": layer.mean(),
        f"{prefix}/weight_norm": (norm * projected).sum() / projected.sum().clamp_min(1),
    }


def _of(seen: Iterable[Seen], name: str) -> list[Tensor]:
    return [getattr(s, name) for s in seen]

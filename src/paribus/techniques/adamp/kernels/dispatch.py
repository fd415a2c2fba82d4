"""Which form takes a step: the reference, batched operations, or a fused kernel; and the diagnostics of a step."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from paribus.core.errors import explain_exception
from paribus.methods.optimizer_parts import compute_dtype
from paribus.techniques.adamp.kernels import batched, cpu
from paribus.techniques.adamp.kernels.params import (
    AdamRule,
    Options,
    ParamTensors,
    ProjectionStats,
    UpdateRule,
    memory_layout,
)

# Where torch has the fused kernels that the batched form starts from and where it was tested; others get the reference.
_BATCHED = ("cpu", "cuda", "meta")
Reference = Callable[[Any, Options, ParamTensors], ProjectionStats | None]
StepCache = dict[object, Any]


def take_step(
    optimizer: torch.optim.Optimizer,
    reference: Reference,
    rule: UpdateRule,
    options: Options,
    params: list[ParamTensors],
    group: dict[str, Any],
) -> list[ProjectionStats]:
    """One step of a group's parameters. reference: the readable form, for one parameter."""
    cache: StepCache = vars(optimizer).setdefault("_kept", {})  # neither saved nor copied with the optimizer
    by_form: dict[tuple[str, torch.device, torch.dtype], list[ParamTensors]] = {}
    for param in params:
        weight = param.weight
        by_form.setdefault((_choose_form(param, group), weight.device, weight.dtype), []).append(param)
    stats: list[ProjectionStats] = []
    for (form_name, device, _), members in by_form.items():
        if form_name == "reference":
            stats += [s for param in members if (s := reference(rule, options, param)) is not None]
        elif form_name == "native":
            stats += cpu.take_step(rule, options, members)
        elif form_name == "triton" and _can_launch_triton(device):
            from paribus.techniques.adamp.kernels import cuda  # imports triton

            stats += cuda.take_step(rule, options, members, cache)
        else:
            stats += batched.take_step(rule, options, members, cache)
    for param in params:
        if param.weight is not param.parameter:
            param.parameter.copy_(param.weight)
    return stats


def _choose_form(param: ParamTensors, group: dict[str, Any]) -> str:
    device = param.weight.device.type
    if device not in _BATCHED or not param.is_dense:
        return "reference"
    if group["fused"]:
        if cpu.is_supported(param) and cpu.kernel(param.weight.dtype) is not None:
            return "native"
        if (
            device == "cuda"
            and param.weight.dtype == torch.float32
            and (not param.is_tested or memory_layout(param)[0] == 1)
        ):
            return "triton"
    elif group["foreach"] is False:
        return "reference"
    return "batched"


def describe_form(optimizer: torch.optim.Optimizer) -> str:
    """The form that takes most of this optimizer's steps here: native, triton, batched or reference."""
    group = optimizer.param_groups[0]
    weight = group["params"][0]
    if weight.device.type not in _BATCHED or (not group["fused"] and group["foreach"] is False):
        return "reference"
    if group["fused"] and weight.device.type == "cpu" and cpu.kernel(compute_dtype(weight.dtype)) is not None:
        return "native"
    if (
        group["fused"]
        and weight.device.type == "cuda"
        and weight.dtype == torch.float32
        and _can_launch_triton(weight.device)
    ):
        return "triton"
    return "batched"


def _can_launch_triton(device: torch.device) -> bool:
    """Whether Triton's kernels run here; where they do not, one warning says why."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing() and _has_triton():
        return True  # a trial would become part of the graph, and be repeated on memory that is freed by then
    return _try_triton(device)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _try_triton(device: torch.device) -> bool:
    """Take one step of one number, once in a process. That Triton is installed says little: it also compiles its
    launcher, and wants a C compiler, the Python headers and libcuda. The kernels compiled here are used again."""
    try:
        from paribus.techniques.adamp.kernels import cuda

        number, *states = (torch.zeros(1, device=device) for _ in range(4))
        steps = torch.zeros((), device=device)
        param = ParamTensors(number, number, states[0], tuple(states[1:]), steps, 0, is_tested=False, is_dense=True)
        cuda.take_step(AdamRule(0.9, 0.999, nesterov=False), Options(0.0, 0.0, 0.1, 0.1, 1e-8, False), [param], {})
    except Exception as error:  # of the compiler, the loader or the driver: none of them is a reason to stop
        warnings.warn(
            f"fused=True: Triton's kernels do not run on {device} ({explain_exception(error)}); every step takes the "
            "batched form instead, which agrees to rounding and is slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def compute_diagnostics(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Shares of the tested tensors that the last step projected, by view, and the mean ‖w‖ of those before it.

    0-dim tensors, 0 if no tensor was tested or projected, and before the first step. Empty if no group has
    diagnostics=True.
    """
    if not any(group["diagnostics"] for group in optimizer.param_groups):
        return {}
    device = optimizer.param_groups[0]["params"][0].device
    stats: list[ProjectionStats] = vars(optimizer).get("_seen", [])
    if not stats:
        nothing = torch.zeros((), device=device)
        return {f"{prefix}/{name}": nothing for name in ("projected_channel", "projected_layer", "weight_norm")}
    channel, layer, norm = (
        torch.cat([x.to(device, torch.float32) for x in xs])
        for xs in (_collect_field(stats, "channel"), _collect_field(stats, "layer"), _collect_field(stats, "norm"))
    )
    projected = channel + layer
    return {
        f"{prefix}/projected_channel": channel.mean(),
        f"{prefix}/projected_layer": layer.mean(),
        f"{prefix}/weight_norm": (norm * projected).sum() / projected.sum().clamp_min(1),
    }


def _collect_field(stats: Iterable[ProjectionStats], name: str) -> list[Tensor]:
    return [getattr(s, name) for s in stats]

"""What our optimizers share besides their maths: option checks, closures, gradients, and loading a state.

All functions, for subclasses of torch.optim.Optimizer to call. Parameters of half precision are computed in float32 and
their state is kept in float32; torch's own keep it in the parameter's dtype, where float16 loses small squares.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

Range = tuple[str, Callable[[Any], bool]]  # in words, and as a test

RATES: Mapping[str, Range] = {
    "lr": ("0 or more, a number or a tensor with one element", lambda x: bool(0 <= x < float("inf"))),
    "eps": ("above 0", lambda x: 0 < x < float("inf")),
    "weight_decay": ("0 or more", lambda x: 0 <= x < float("inf")),
}
# These belong to the optimizer that runs, not to the state it resumes from.
SWITCHES = ("foreach", "fused", "capturable", "diagnostics")
_ON_DEVICE = ("cpu", "cuda", "meta")  # where a step is counted beside the parameter; elsewhere there may be no float64
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a parameter of this dtype is computed in, and what its state is kept in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_newest_group(optimizer: torch.optim.Optimizer, ranges: Mapping[str, Range]) -> None:
    """For the end of `add_param_group`, which torch's constructor calls too, so that every group's options are checked.

    Raises ValueError, and removes the group again, if its options or parameters cannot be used.
    """
    group = optimizer.param_groups[-1]
    wrong = [
        f"{key} should be {allowed}, found {group[key]}"
        for key, (allowed, fits) in ranges.items()
        if not _is_allowed(fits, group[key])
    ]
    if group["foreach"] and group["fused"]:
        wrong.append("foreach and fused cannot both be True; fused is the faster one")
    wrong += [
        "parameters should be dense and of float16, bfloat16, float32 or float64, "
        f"found {p.dtype}, {p.layout}, shape {tuple(p.shape)}"
        for p in group["params"]
        if p.dtype not in _FLOATS or p.layout is not torch.strided
    ]
    if wrong:
        optimizer.param_groups.pop()
        raise ValueError(f"{type(optimizer).__name__}: {wrong[0]}")


def _is_allowed(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return fits(value)
    except (TypeError, RuntimeError):  # not a number, or a tensor of several
        return False


def run_closure(closure: Callable[[], Any] | None) -> Any:
    """The result of a step's closure, which needs gradients though the step does not."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def collect_with_gradients(optimizer: torch.optim.Optimizer) -> list[tuple[dict[str, Any], list[Tensor]]]:
    """(group, its parameters that have a gradient) of all groups. Raises ValueError for a sparse gradient."""
    found = [(group, [p for p in group["params"] if p.grad is not None]) for group in optimizer.param_groups]
    for p in (p for _, members in found for p in members):
        if p.grad is not None and p.grad.layout is not torch.strided:
            raise ValueError(
                f"{type(optimizer).__name__}: gradients should be dense, found {p.grad.layout} for a parameter of "
                f"shape {tuple(p.shape)}; nn.Embedding gives dense ones with sparse=False"
            )
    return found


def make_step_counter(p: Tensor, value: Any = 0) -> Tensor:
    """The count of steps of a parameter: float32, 0-dimensional, on the device, so that a CUDA graph can count."""
    device = p.device if p.device.type in _ON_DEVICE else torch.device("cpu")
    if isinstance(value, Tensor):
        return value.reshape(()).to(device, torch.float32, copy=True)
    # made there: the host would wait for a copy
    return torch.full((), float(value), dtype=torch.float32, device=device)


def to_scalar(lr: float | Tensor) -> float | Tensor:
    """A tensor with one element becomes 0-dimensional, since its axes would broadcast to what it is multiplied with."""
    return lr.reshape(()) if isinstance(lr, Tensor) else lr


def apply_decay_and_step(weight: Tensor, u: Tensor, rate: float | Tensor, decay: float | Tensor) -> None:
    """weight ← weight·(1 − decay) − rate·u."""
    weight.mul_(1 - decay)
    if isinstance(rate, Tensor):
        weight.sub_(rate * u)  # as `alpha`, a tensor would make the host wait
    else:
        weight.add_(u, alpha=-rate)  # rounds once, like torch.optim.SGD


def convert_loaded_state(
    optimizer: torch.optim.Optimizer,
    loaded: dict[str, Any],
    before: list[dict[str, Any]],
    renamed: Mapping[str, str] | None = None,
) -> None:
    """After torch's `load_state_dict`: also a state written by a related optimizer becomes a state of this one.

    loaded: the state dict. before: this optimizer's groups as they were, whose options stand where `loaded` has none.
    renamed: another implementation's key to ours. Tensors are copied; torch would share them with `loaded` and cast
    those of half-precision parameters down.
    """
    for group, own in zip(optimizer.param_groups, before, strict=True):
        for key, value in own.items():
            group.setdefault(key, value)
        group.update({key: own[key] for key in SWITCHES if key in own})
    ids = chain.from_iterable(group["params"] for group in loaded["param_groups"])
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for i, p in zip(ids, parameters, strict=True):
        for key, value in loaded["state"].get(i, {}).items():
            state = optimizer.state[p]
            if key == "step":  # other optimizers keep it on the CPU, or as an int
                state[key] = make_step_counter(p, value)
            elif isinstance(value, Tensor):
                state.pop(key)
                own = torch.empty_like(p, dtype=compute_dtype(p.dtype))  # in the parameter's strides
                state[(renamed or {}).get(key, key)] = own.copy_(value)

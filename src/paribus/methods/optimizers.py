"""The baselines' optimizers, torch's own, from parameter groups. A technique swaps the class and keeps the settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.protocols import OptimizerFactory, ParameterGroup

Decay = Literal["matrices", "all"]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def torch_groups(groups: Sequence[ParameterGroup], weight_decay: float) -> list[dict[str, Any]]:
    """The form torch's optimizers take; a group that does not decay has weight decay 0."""
    return [{"params": list(g.parameters), "weight_decay": weight_decay if g.decays else 0.0} for g in groups]


# How an optimizer computes, not what: these belong to the one that runs, not to the state it resumes from.
_SWITCHES = ("foreach", "fused", "capturable")


@dataclass(frozen=True)
class FusedOptimizerFactory:
    """A factory whose optimizers keep their own switches, whatever those of the checkpoint they resume from.

    fused: use the fused kernels. torch's own `load_state_dict` takes the switches of the state.
    """

    factory: OptimizerFactory
    fused: bool

    @property
    def decay(self) -> str:
        return self.factory.decay

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        """Raises ConfigError if fused kernels are requested and the optimizer has none."""
        optimizer = self.factory(groups)
        for group in optimizer.param_groups if self.fused else ():
            if "fused" not in group:
                raise ConfigError(f"runtime.fused: found true; {type(optimizer).__name__} has no fused kernels")
            group.update(fused=True, foreach=False)
        if self.fused:
            _leave_overflow_to_kernels(optimizer)
        optimizer.register_load_state_dict_pre_hook(_keep_own_switches)
        return optimizer


def _leave_overflow_to_kernels(optimizer: torch.optim.Optimizer) -> None:
    """Have fp16's loss scaling hand its overflow flag to the fused kernels of torch's Adam, AdamW and SGD, which skip
    the step on the device; of other optimizers it reads the flag, so the host waits once a step.

    torch's constructors set this for fused=True, which here comes after them. SGD with dampening stays as it is: its
    first step is unlike the others, and torch takes a skipped one for it.
    """
    kernels = type(optimizer).step.__module__  # of the class that defines `step`, so a subclass with its own is out
    if kernels not in ("torch.optim.adam", "torch.optim.sgd"):
        return
    is_sgd = kernels == "torch.optim.sgd"
    skips = not (is_sgd and any(group["dampening"] for group in optimizer.param_groups))
    optimizer._step_supports_amp_scaling = skips  # pyright: ignore[reportAttributeAccessIssue]
    if is_sgd and skips:
        optimizer.register_step_pre_hook(_start_momentum_at_zero)


def _start_momentum_at_zero(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Momentum for a step that may be skipped: torch (2.11 to 2.15) would leave its buffers uninitialised, and use them
    in the next step. Without dampening the first step from 0 gives the same bits."""
    if not hasattr(optimizer, "found_inf"):  # no loss scaling
        return
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            state = optimizer.state[parameter]
            if parameter.grad is not None and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter.grad)


def _keep_own_switches(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    groups = [
        {**loaded, **{key: own[key] for key in _SWITCHES if key in own}}
        for loaded, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


@schema
class SGD:
    """torch.optim.SGD: momentum with coupled (L2) weight decay.

    lr: the highest learning rate, which the schedule multiplies. momentum: share of the last update that stays.
    dampening: of the gradient in the momentum. weight_decay: the L2 penalty, added to the gradient. nesterov:
    Nesterov's momentum. decay: which tensors decay, `matrices` (of two dimensions and more) or all (models/groups.py).
    """

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
    """torch.optim.AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    lr: the highest learning rate, which the schedule multiplies. betas: decay of the averages of the gradient and its
    square. eps: added to the denominator. weight_decay: decoupled, so times the learning rate. decay: which tensors
    decay, `matrices` (of two dimensions and more) or all (models/groups.py).
    """

    lr: Rate = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay: Decay = "matrices"

    def __call__(self, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(torch_groups(groups, self.weight_decay), lr=self.lr, betas=self.betas, eps=self.eps)

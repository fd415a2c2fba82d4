"""Which tensors get weight decay: decided here, once, for every model and optimizer."""

from collections.abc import Iterable
from typing import Any, cast

from torch import nn

from paribus.core.protocols import ParameterGroup


def decay_groups(model: nn.Module, rule: str) -> list[ParameterGroup]:
    """The trainable parameters in two groups, those that decay first; an empty group is left out.

    rule "matrices": tensors with two or more dimensions decay, unless the model's own `no_weight_decay()` names them
    (position embeddings, tokens). Biases and the scales of normalisation layers do not.
    rule "all": everything decays, as in the code of CutMix, AdamP and ReXNet.
    """
    method = getattr(model, "no_weight_decay", None)
    exempt = set(cast(Iterable[str], cast(Any, method)())) if callable(method) else set[str]()
    chosen: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter in model.named_parameters():  # a shared parameter comes once
        if parameter.requires_grad:
            decays = rule == "all" or (parameter.ndim > 1 and name not in exempt)
            chosen[decays].append((name, parameter))
    return [
        ParameterGroup(tuple(name for name, _ in members), tuple(p for _, p in members), decays)
        for decays, members in chosen.items()
        if members
    ]


def channel_axis_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Groups for AdamP and SGDP that name the axis of the output channels: 1 for the weights of transposed
    convolutions, which are (in, out/groups, ...), and 0 for the rest. Add other options to each as you like.
    """
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    second = {id(m.weight) for m in model.modules() if isinstance(m, transposed)}
    chosen: dict[int, list[nn.Parameter]] = {0: [], 1: []}
    for parameter in model.parameters():
        chosen[int(id(parameter) in second)].append(parameter)
    return [{"params": members, "channel_axis": axis} for axis, members in chosen.items() if members]

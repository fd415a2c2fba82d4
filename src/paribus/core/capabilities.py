"""What may be asked of a method beyond steps and scores, and of its network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from paribus.core.errors import ConfigError
from paribus.core.protocols import HasParameters, ParameterGroup


@runtime_checkable
class HasNetwork(Protocol):
    """Capability of a method: the network that evaluation uses, (n, c, h, w) to (n, classes) scores with gradients."""

    @property
    def eval_model(self) -> nn.Module: ...


@runtime_checkable
class Embeds(Protocol):
    """Capability of a network: (n, c, h, w) inputs to (n, d) features."""

    def embed(self, inputs: Tensor) -> Tensor: ...


@runtime_checkable
class Attributes(Protocol):
    """Capability of a network: how much each place speaks for a class, (n, h, w), larger for more. classes: (n,) int64.
    h and w may be smaller than the input's."""

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class AttentionMap:
    """One layer's attention. weights: (n, heads, t, t) float32, a row for each query, of sum 1 over the keys. grid:
    (h, w); the last h·w tokens are the cells of the map, row by row, those before them class tokens. pitch: pixels of
    the input between neighbouring cells, (down, across)."""

    weights: Tensor
    grid: tuple[int, int]
    pitch: tuple[int, int]


@runtime_checkable
class HasAttention(Protocol):
    """Capability of a network: its layers' attention for (n, c, h, w) inputs, in order. One layer's at a time, since
    all of them may not fit in memory."""

    def attention_maps(self, inputs: Tensor) -> Iterator[AttentionMap]: ...


class TrainedPart(Protocol):
    """A network with the optimizer that trains it, and that optimizer's groups; () unknown."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    @property
    def groups(self) -> tuple[ParameterGroup, ...]: ...


@runtime_checkable
class HasParts(Protocol):
    """Capability of a method: what it trains, by name. "" is the network in the place of the supervised method's, whose
    weights `state_dict` has under "model"; it has those of another, NAME, under NAME and "model"."""

    def parts(self) -> Mapping[str, TrainedPart]: ...


@dataclass(frozen=True)
class _OnlyPart:
    network: nn.Module
    optimizer: torch.optim.Optimizer
    groups: tuple[ParameterGroup, ...]


def list_parts(method: Any) -> dict[str, TrainedPart]:
    """What a method trains; of one that does not say, its `model` and `optimizer`, if it has both."""
    if isinstance(method, HasParts):
        return dict(method.parts())
    model, optimizer = getattr(method, "model", None), getattr(method, "optimizer", None)
    if model is None or optimizer is None:
        return {}
    return {"": _OnlyPart(model, optimizer, tuple(getattr(method, "groups", ())))}


def list_networks(method: Any) -> dict[str, nn.Module]:
    """The networks that a method trains; of one that does not say, its `model`."""
    if isinstance(method, HasParts):
        return {name: part.network for name, part in method.parts().items()}
    model = getattr(method, "model", None)
    return {} if model is None else {"": model}


def trained_parameters(method: Any) -> Iterable[nn.Parameter] | None:
    """The parameters whose gradients a step leaves behind; None of a method that does not say."""
    if isinstance(method, HasParameters):
        return method.parameters()
    if isinstance(method, HasParts):
        return (parameter for part in method.parts().values() for parameter in part.network.parameters())
    return None


T = TypeVar("T")


def ask_for(method: Any, capability: type[T], where: str) -> T:
    """The method as one that has the capability. where: the config key of who asks. Raises ConfigError.

    >>> from paribus.core.protocols import Predicts
    >>> ask_for(object(), Predicts, "evaluators.accuracy")
    Traceback (most recent call last):
        ...
    paribus.core.errors.ConfigError: evaluators.accuracy: needs a method with predict; object has none
    """
    if not isinstance(method, cast(Any, capability)):
        wanted = sorted(n for n in dir(capability) if not n.startswith("_"))
        raise ConfigError(f"{where}: needs a method with {', '.join(wanted)}; {type(method).__name__} has none")
    return cast(T, method)

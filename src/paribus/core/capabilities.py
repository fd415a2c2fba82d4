"""What an evaluator may ask of a method beyond scores, and of its network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor, nn

from paribus.core.errors import ConfigError


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

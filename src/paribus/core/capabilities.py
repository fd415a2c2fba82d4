"""What may be asked of a method beyond steps and scores, and of its network: its parts, where it looks, its features.

A network that has `attribute` or `embed` is asked. Of any other both are taken from what its forward computes last,
which is watched while it runs (`watch_ending`), so that networks need not be written for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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


@runtime_checkable
class AddsParts(Protocol):
    """Capability of a network that is built around another: the names of its modules that the other lacks. Starting
    weights of the other fit it, and these modules then keep their initialisation."""

    added_parts: tuple[str, ...]


@runtime_checkable
class Samples(Protocol):
    """Capability of a method that generates images, after `prepare_eval`. conditional: whether an image is of a class
    that is asked for."""

    @property
    def conditional(self) -> bool: ...

    def sample(self, ids: Tensor, seed: int, classes: Tensor | None = None) -> Tensor:
        """(n, c, h, w) normalised inputs as the data's. Image `id` is a function of seed, id and class alone.

        ids: (n,) int64, from 0. classes: (n,) int64, of a conditional generator; None: image `id` is of the class
        id mod the number of classes.
        """
        ...


@runtime_checkable
class Translates(Protocol):
    """Capability of a method that gives images of one domain the look of another, after `prepare_eval`."""

    def translate(self, inputs: Tensor, domains: Tensor, sources: Tensor | None = None) -> Tensor:
        """(n, c, h, w) normalised inputs to as many, of the domains that are asked for.

        domains: (n,) int64. sources: (n,) int64, the domains of the inputs, which a method of several networks has to
        know; None: not known.
        """
        ...


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


def list_added_parts(network: nn.Module) -> tuple[str, ...]:
    """Of a network that is built around another, the modules that the other lacks; () of any other."""
    return network.added_parts if isinstance(network, AddsParts) else ()


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
# what has a capability, for who asks for it of another
_LIKE = {
    "Predicts": ", as method=supervised",
    "Samples": ", as method=adversarial",
    "Translates": ", as method=translation",
}


def ask_for(method: Any, capability: type[T], where: str) -> T:
    """The method as one that has the capability. where: the config key of who asks. Raises ConfigError.

    >>> from paribus.core.protocols import Predicts
    >>> ask_for(object(), Predicts, "evaluators.ood")
    Traceback (most recent call last):
        ...
    paribus.core.errors.ConfigError: evaluators.ood: needs a method with predict, as method=supervised; object has none
    """
    if not isinstance(method, cast(Any, capability)):
        wanted = sorted(n for n in dir(capability) if not n.startswith("_"))
        like = _LIKE.get(capability.__name__, "")
        raise ConfigError(f"{where}: needs a method with {', '.join(wanted)}{like}; {type(method).__name__} has none")
    return cast(T, method)


class Explained(NamedTuple):
    """scores: (n, classes). maps: (n, h, w), larger where more speaks for the class in question."""

    scores: Tensor
    maps: Tensor


@torch.no_grad()
def class_activation_maps(model: nn.Module, inputs: Tensor, classes: Tensor | None = None) -> Explained:
    """Scores and, of one class of each image, the class activation map (Zhou et al. 2016, arXiv 1512.04150): the last
    feature maps, each weighted as the classifier weights its average. The bias, which is the same everywhere, is left
    out.

    classes: (n,) int64; None: of the highest score. A network with `attribute` gives its own maps. Raises ConfigError
    for one that does not end in a global average pool and a linear layer.
    """
    if isinstance(model, Attributes):
        scores = model(inputs)
        return Explained(scores, model.attribute(inputs, scores.argmax(1) if classes is None else classes))
    scores, ending = watch_ending(model, inputs)
    if ending is None or ending.pooled is None:
        raise ConfigError(
            f"{type(model).__name__} does not end in a global average pool and one linear layer, from which class "
            "activation maps are made; a network with a method attribute(inputs, classes) gives its own"
        )
    weights = ending.weight[scores.argmax(1) if classes is None else classes]
    # an image at a time, so that the order in which products are added does not depend on how many there are
    maps = torch.bmm(weights[:, None], ending.pooled.flatten(2))[:, 0]
    return Explained(scores, maps.view(len(inputs), *ending.pooled.shape[2:]))


@torch.no_grad()
def embed(model: nn.Module, inputs: Tensor) -> Tensor:
    """(n, d) features: a network's own `embed`, else what its last linear layer is given. Raises ConfigError for one
    that does not end in a linear layer."""
    if isinstance(model, Embeds):
        return model.embed(inputs)
    _, ending = watch_ending(model, inputs)
    if ending is None:
        raise ConfigError(
            f"{type(model).__name__} does not end in a linear layer, whose inputs are the features; a network with a "
            "method embed(inputs) gives its own"
        )
    return ending.features


@dataclass(frozen=True)
class Ending:
    """How a network came to its scores. features, weight, bias: (n, d), (classes, d) and (classes,) or None, of the
    linear layer. pooled: the (n, d, h, w) maps of which the features are the averages over all places; None if they are
    anything else."""

    features: Tensor
    weight: Tensor
    pooled: Tensor | None
    bias: Tensor | None = None


def watch_ending(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Ending | None]:
    """What the network gives, and how it ended; None if that was not a linear layer. Nothing is compared that the
    device would be waited for: what lies in the same memory is the same."""
    with _Watch() as seen:
        scores = model(inputs)
    if seen.linear is None or not isinstance(scores, Tensor):
        return scores, None
    features, weight, bias, made = seen.linear
    if not _is_same_memory(made, scores) or made.shape != scores.shape:
        return scores, None
    pooled = None
    if seen.pool is not None:
        maps, average, version = seen.pool
        # another version: something was done to the average in place
        pooled = maps if _is_same_memory(average, features) and average._version == version else None
    return scores, Ending(features, weight, pooled, bias)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """With every module in evaluation mode (running statistics are used and not changed, nothing is dropped), and each
    as it was afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


_AVERAGES = (Tensor.mean, torch.mean, F.adaptive_avg_pool2d, F.avg_pool2d)


class _Watch(TorchFunctionMode):
    """Keeps the last global average over the places of maps, as (maps, average, its version), and the last linear
    layer, as (its inputs, weight, bias, outputs), of all that is computed meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: tuple[Tensor, Tensor, int] | None = None
        self.linear: tuple[Tensor, Tensor, Tensor | None, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func is F.linear and args[0].ndim == 2:
            weight, bias = (args[k] if len(args) > k else kwargs.get(n) for k, n in ((1, "weight"), (2, "bias")))
            self.linear = (args[0], weight, bias, made)
        elif func in _AVERAGES and args and _is_global_average(args[0], made):
            self.pool = (args[0], made, made._version)
        return made


def _is_global_average(maps: Any, made: Any) -> bool:
    return isinstance(maps, Tensor) and maps.ndim == 4 and made.shape in (maps.shape[:2], (*maps.shape[:2], 1, 1))


def _is_same_memory(one: Tensor, other: Tensor) -> bool:
    # by their storage, which tensors without values (fake, meta) have too
    where = [(x.untyped_storage()._cdata, x.storage_offset(), x.numel()) for x in (one, other)]
    return where[0] == where[1]

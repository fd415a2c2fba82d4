"""What the two networks of adversarial training have to do with each other and with a loss: their calls, by name.

A method, its losses and its penalties are written against these; models/dcgan.py and models/residual_gan.py have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.meta import to_meta
from paribus.core.progress import Progress
from paribus.core.protocols import ModelFactory

ChangeMaps = Callable[[Tensor, int], Tensor]
"""From the (n, c, h, w) maps that a convolution gave, and which one it was from 0, to those that the next is given."""


def keep_maps(maps: Tensor, layer: int) -> Tensor:
    return maps


class Generated(NamedTuple):
    """images: (n, c, h, w), −1 to 1. maps: the features behind each stage, from small to large, (n, d, h, w)."""

    images: Tensor
    maps: tuple[Tensor, ...]


@runtime_checkable
class Generates(Protocol):
    """Capability of a network. noise: (n, latent). classes: (n, k) weights of classes; None where `classes` is 0."""

    latent: int
    classes: int

    def __call__(self, noise: Tensor, classes: Tensor | None = None) -> Generated: ...


class ScoredImages(NamedTuple):
    """scores: (n,), higher where an image looks real. maps: the features behind each stage, from large to small."""

    scores: Tensor
    maps: tuple[Tensor, ...]


@runtime_checkable
class Discriminates(Protocol):
    """Capability of a network. images: (n, c, h, w). classes: as of `Generates`. change: of the maps behind each
    convolution, before they are activated; the last layer, which makes scores of them, has none."""

    classes: int

    def __call__(
        self, images: Tensor, classes: Tensor | None = None, change: ChangeMaps = keep_maps
    ) -> ScoredImages: ...


class JudgedBatch(NamedTuple):
    """What the discriminator was shown in a step, and what it made of it. discriminator: its network. real, fake: its
    inputs. classes: of both. generated: maps of the generator that made `fake`, without gradients. gathered: rows of
    all ranks, as in `BuildContext`."""

    discriminator: Any
    real: Tensor
    fake: Tensor
    classes: Tensor | None
    real_judgement: ScoredImages
    fake_judgement: ScoredImages
    generated: tuple[Tensor, ...]
    gathered: Callable[[Tensor], Tensor]


@runtime_checkable
class AdversarialLoss(Protocol):
    """Both networks' losses, scalars, from (n,) scores that are higher where an image looks real."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, fake: Tensor) -> Tensor: ...


@runtime_checkable
class DiscriminatorPenalty(Protocol):
    """A term that is added to the discriminator's loss.

    differentiates: whether it takes gradients with respect to `JudgedBatch.real`, which has them only then; a step with
    it is not compiled. draw: what is drawn for a step, outside its graph: tensors and plain values that the call is
    given as `drawn`. The call gives the term, with its weight, as a scalar.
    """

    @property
    def differentiates(self) -> bool: ...

    def draw(self, batch: Batch, at: Progress) -> Mapping[str, Any]: ...

    def __call__(self, judged: JudgedBatch, drawn: Mapping[str, Any]) -> Tensor: ...


@runtime_checkable
class FitsNetworks(Protocol):
    """Capability of a penalty: raises ConfigError unless it can work with these two networks. where: its config key."""

    def check_networks(self, generator: Any, discriminator: Any, where: str) -> None: ...


@runtime_checkable
class ExtendsDiscriminator(Protocol):
    """Capability of a penalty that trains layers of its own (techniques/ggdr.py)."""

    def extend_discriminator(self, discriminator: ModelFactory, generator: nn.Module) -> ModelFactory:
        """What makes the discriminator with these layers among its modules, under a name in its `added_parts`, made
        after all others, so that those start as they do without. Raises ConfigError where they do not fit."""
        ...


def sketch_generated(generator: Any) -> Generated:
    """What a network of `Generates` makes of two rows of noise: shapes without values, at no cost."""
    noise = torch.empty(2, generator.latent, device="meta")
    return to_meta(generator)(noise, *_sketch_classes(generator))


def sketch_judgement(discriminator: Any, images: Tensor, change: ChangeMaps = keep_maps) -> ScoredImages:
    """What a network of `Discriminates` makes of two images, likewise. images: (2, c, h, w) on the meta device."""
    (classes,) = _sketch_classes(discriminator) or (None,)
    return to_meta(discriminator)(images, classes, change)


def _sketch_classes(network: Any) -> tuple[Tensor, ...]:
    return (torch.empty(2, network.classes, device="meta"),) if network.classes else ()


@runtime_checkable
class TranslatesToDomains(Protocol):
    """Capability of a network that gives images the look of a domain (models/stargan.py). images: (n, c, h, w), −1 to
    1. domains: (n, nets, known) weights of those that each of its networks knows. Returns (n, nets, c, h, w)."""

    def translate_all(self, images: Tensor, domains: Tensor) -> Tensor: ...

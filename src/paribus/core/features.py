"""Features of images by which sets of images are compared, and pixels as an image file can hold them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from paribus.core.protocols import Spec


@runtime_checkable
class FeatureFactory(Protocol):
    """Makes what takes the features: from (n, c, h, w) pixels, 0 to 1, to (n, d). It normalises them itself, as its
    network was trained, whatever the data's own mean and std."""

    def describe(self) -> str:
        """The words in which a report names it, by which two networks, or two states of one, are told apart. Raises
        ConfigError if its file cannot be read."""
        ...

    def __call__(self, spec: Spec) -> nn.Module: ...


def to_8_bits(pixels: Tensor) -> Tensor:
    """Pixels as a file of 8 bits a channel gives them back: the nearest of 0/255 to 255/255."""
    return (pixels.clamp(0, 1) * 255).round() / 255

"""From values between 0 and 1 to 8 bits, as the public files have them."""

import torch
from torch import Tensor

# of a grey level: a value that is a whole level but for rounding errors must not fall to the level below
_TOLERANCE = 1e-4


def quantise(images: Tensor) -> Tensor:
    """uint8, cut off below as NumPy's conversion does."""
    return (images.clamp(0, 1) * 255 + _TOLERANCE).floor().to(torch.uint8)


def round_to_levels(images: Tensor) -> Tensor:
    """The nearest multiples of 1/255, halves upwards, as image libraries have it."""
    return (images * 255 + (0.5 + _TOLERANCE)).floor() / 255

"""Inputs as a network takes them, normalised, and as pixels, 0 to 1: from one to the other. mean, std: of each
channel, in units of the 0–1 range."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_pixels(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised inputs (n, c, h, w) as pixels."""
    return inputs * by_channel(std, inputs) + by_channel(mean, inputs)


def to_inputs(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels (n, c, h, w) as normalised inputs."""
    return (pixels - by_channel(mean, pixels)) / by_channel(std, pixels)


def by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    """A number a channel as (c, 1, 1), of the type and on the device of `like`."""
    # `full` makes each value on the device; torch.tensor would make the host wait for its copy
    return torch.cat([torch.full((1, 1, 1), v, dtype=like.dtype, device=like.device) for v in values])

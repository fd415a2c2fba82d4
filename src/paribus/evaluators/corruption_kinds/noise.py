"""Noise: each value of an image is drawn anew around what it was."""

import torch
from torch import Tensor

from paribus.evaluators.corruption_kinds.draws import Draws


def gaussian_noise(images: Tensor, draws: Draws, deviation: float) -> Tensor:
    return images + deviation * draws.normal("noise", *images.shape[1:])


def speckle_noise(images: Tensor, draws: Draws, deviation: float) -> Tensor:
    return images + images * deviation * draws.normal("noise", *images.shape[1:])


def shot_noise(images: Tensor, draws: Draws, photons: float) -> Tensor:
    levels = (images * 255).round().long()
    return draws.poisson("photons", levels, photons) / photons


def impulse_noise(images: Tensor, draws: Draws, share: float) -> Tensor:
    """Half of the values that are hit become 1, the others 0."""
    u = draws.uniform("hit", *images.shape[1:])
    return torch.where(u < share, (u < share / 2).double(), images)

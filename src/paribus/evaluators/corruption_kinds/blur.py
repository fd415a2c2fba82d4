"""Blur: out of focus, through frosted glass, in motion, while zooming, and by a Gaussian."""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import quantise, round_to_levels
from paribus.evaluators.corruption_kinds.resampling import clamp, correlate, mirror, smooth, zoom


def gaussian_blur(images: Tensor, draws: Draws, sigma: float) -> Tensor:
    return smooth(images, sigma, 4.0, clamp)


def defocus_blur(images: Tensor, draws: Draws, radius: float, edge: float) -> Tensor:
    return correlate(images, _disk(radius, edge))


@functools.lru_cache(maxsize=16)
def _disk(radius: float, edge: float) -> "np.ndarray[Any, Any]":
    """A disk of weight 1 whose edge is smoothed by a Gaussian of 3 taps, of 5 for a radius above 8."""
    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    along = np.arange(-reach, reach + 1)
    disk = (along**2 + along[:, None] ** 2 <= radius**2).astype(float)
    weights = np.exp(-0.5 * (np.arange(-taps, taps + 1) / edge) ** 2)
    matrix = np.zeros((len(along), len(along)))
    for offset, weight in zip(range(-taps, taps + 1), weights / weights.sum(), strict=True):
        columns = mirror(torch.arange(len(along)) + offset, len(along)).numpy()
        np.add.at(matrix, (np.arange(len(along)), columns), weight)
    return matrix @ (disk / disk.sum()) @ matrix.T


def glass_blur(images: Tensor, draws: Draws, sigma: float, farthest: float, passes: float) -> Tensor:
    """Smoothed, pixels exchanged for neighbours, smoothed.

    The published script means to swap each pixel with a neighbour, from the last to the first, but its swap of NumPy's
    views copies the neighbour over the pixel and leaves the neighbour as it was. The public files are made so.
    """
    n, channels, height, width = images.shape
    pixels = quantise(smooth(images, sigma, 4.0, clamp)).flatten(2)
    for k in range(int(passes)):
        shifts = (draws.uniform(f"shift{k}", 2, height, width) * (2 * int(farthest))).floor().long() - int(farthest)
        source = _copied_from(shifts, int(farthest))
        pixels = pixels.gather(2, source[:, None].expand(-1, channels, -1))
    return smooth(pixels.view(n, channels, height, width).double() / 255, sigma, 4.0, clamp)


def _copied_from(shifts: Tensor, margin: int) -> Tensor:
    """Which pixel of the image each pixel ends up as, (n, h · w), when one after another, from the last to the first,
    becomes a copy of the one at its shift. shifts: (n, 2, h, w) int64, rows and columns. Pixels fewer than margin + 1
    from the first edges and margin - 1 from the last stay.

    A pixel that copies from one behind it gets what that one has got by then. To follow all these chains at once, each
    pixel's next one is replaced by the next one's next, as often as doubling takes to cover the longest.
    """
    height, width = shifts.shape[2:]
    here = torch.arange(height * width, device=shifts.device).view(height, width)
    moves = torch.zeros(height, width, dtype=torch.bool, device=shifts.device)
    moves[margin + 1 : height - margin + 1, margin + 1 : width - margin + 1] = True
    source = torch.where(moves, here + shifts[:, 0] * width + shifts[:, 1], here).flatten(1)
    here, moves = here.flatten(), moves.flatten()
    onward = torch.where((source > here) & moves[source], source, here)
    for _ in range((height * width).bit_length()):
        onward = onward.gather(1, onward)
    return source.gather(1, onward)


def motion_blur(images: Tensor, draws: Draws, radius: float, sigma: float) -> Tensor:
    return move(images, draws.uniform("angle", 1)[:, 0] * 90 - 45, radius, sigma)


def move(images: Tensor, degrees: Tensor, radius: float, sigma: float) -> Tensor:
    """The mean over the pixels that lie one way from each, by a falling Gaussian: ImageMagick's MotionBlurImage, whose
    result has 8 bits, to the nearest level. degrees: (n,)."""
    channels, height, width = images.shape[1:]
    taps = np.exp(-0.5 * (np.arange(2 * math.ceil(radius) + 1) / sigma) ** 2)
    angle = torch.deg2rad(degrees)[:, None]
    device = images.device
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    flat = images.flatten(2)
    total = torch.zeros_like(flat)
    for k, weight in enumerate(taps / taps.sum()):
        down, along = ((k * f(angle) - 0.5).ceil().long() for f in (torch.sin, torch.cos))
        rows, columns = clamp(y + down, height), clamp(x + along, width)
        there = (rows[:, :, None] * width + columns[:, None]).flatten(1)
        total.add_(flat.gather(2, there[:, None].expand(-1, channels, -1)), alpha=float(weight))
    return round_to_levels(total.view(images.shape))


def zoom_blur(images: Tensor, draws: Draws, count: float, step: float) -> Tensor:
    """The mean of the image and of `count` enlarged ones, of which the first is enlarged by 1."""
    total = images.clone()
    for k in range(int(count)):
        total += zoom(images, 1 + k * step)
    return total / (count + 1)

"""Weather: snow, fog, and the light."""

import torch
from torch import Tensor

from paribus.evaluators.corruption_kinds.blur import move
from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import quantise
from paribus.evaluators.corruption_kinds.resampling import zoom

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # ITU-R 601


def snow(
    images: Tensor,
    draws: Draws,
    mean: float,
    deviation: float,
    factor: float,
    threshold: float,
    radius: float,
    sigma: float,
    share: float,
) -> Tensor:
    """A whitened image under falling flakes and the same flakes turned by 180°."""
    flakes = zoom(mean + deviation * draws.normal("flakes", 1, *images.shape[2:]), factor)
    flakes = quantise(torch.where(flakes < threshold, 0.0, flakes)).double() / 255
    flakes = move(flakes, draws.uniform("angle", 1)[:, 0] * 90 - 135, radius, sigma)
    first, last = images[:, :1], images[:, -1:]
    grey = first if images.shape[1] == 1 else _RED * first + _GREEN * images[:, 1:2] + _BLUE * last
    white = torch.maximum(images, grey * 1.5 + 0.5)
    return share * images + (1 - share) * white + flakes + flakes.flip(2, 3)


def fog(images: Tensor, draws: Draws, weight: float, decay: float) -> Tensor:
    """A cloud is added, and the image darkened to the brightness it had."""
    brightest = images.amax((1, 2, 3), keepdim=True)
    cloud = _make_cloud(draws, max(images.shape[2:]), decay)[:, None, : images.shape[2], : images.shape[3]]
    return (images + weight * cloud) * brightest / (brightest + weight)


def _make_cloud(draws: Draws, side: int, decay: float) -> Tensor:
    """A plasma fractal (diamond-square), (n, m, m) between 0 and 1, where m is the power of two that is not below
    `side`. It goes round its edges. At each point one number is drawn, whose size falls with the scale."""
    size = 1 << (side - 1).bit_length()
    wobble = 2 * draws.uniform("cloud", size, size) - 1
    cloud = torch.zeros_like(wobble)
    step, scale = size, 100.0
    while step >= 2:
        half = step // 2

        def fill(rows: slice, columns: slice, around: Tensor, scale: float = scale) -> None:
            cloud[:, rows, columns] = around / 4 + scale * scale * wobble[:, rows, columns]

        corners, middles = slice(0, size, step), slice(half, size, step)
        grid = cloud[:, corners, corners]
        square = grid + grid.roll(-1, 1)
        fill(middles, middles, square + square.roll(-1, 2))
        centres = cloud[:, middles, middles]
        fill(corners, middles, centres + centres.roll(1, 1) + grid + grid.roll(-1, 2))
        fill(middles, corners, centres + centres.roll(1, 2) + grid + grid.roll(-1, 1))
        step, scale = half, scale / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    return cloud / cloud.amax((1, 2), keepdim=True)


def brightness(images: Tensor, draws: Draws, more: float) -> Tensor:
    """Added to the value of HSV at equal hue and saturation: all channels of a pixel grow by one factor."""
    value = images.amax(1, keepdim=True)
    brighter = (value + more).clamp(0, 1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1 / 255)), brighter)

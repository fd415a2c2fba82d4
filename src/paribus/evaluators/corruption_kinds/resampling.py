"""What several corruptions are made of: smoothing, zooming, correlating and sampling between pixels.

Images are (n, c, h, w) float64. What lies outside of an image is told by an extension: `clamp` repeats the edge,
`mirror` reflects about the edge's pixel, `reflect` about the edge itself.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Extension = Callable[[Tensor, int], Tensor]


def clamp(index: Tensor, n: int) -> Tensor:
    """The pixels, 0 to n - 1, that stand for these, which may lie outside: … 0 0 | 0 1 2 | 2 2 …"""
    return index.clamp(0, n - 1)


def mirror(index: Tensor, n: int) -> Tensor:
    """… 2 1 | 0 1 2 | 1 0 …"""
    period = max(1, 2 * n - 2)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def reflect(index: Tensor, n: int) -> Tensor:
    """… 1 0 | 0 1 2 | 2 1 …"""
    index = index.remainder(2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def smooth(images: Tensor, sigma: float, truncate: float, extend: Extension) -> Tensor:
    """A Gaussian of `truncate` sigmas. Its matrices sum all pixels outside that are the same one, so that a sigma
    larger than the image costs no more than a small one."""
    if sigma == 0:
        return images
    down, along = (
        torch.from_numpy(_smoothing_matrix(n, sigma, truncate, extend)).to(images.device) for n in images.shape[2:]
    )
    return down @ (images @ along.T)


@functools.lru_cache(maxsize=64)
def _smoothing_matrix(n: int, sigma: float, truncate: float, extend: Extension) -> "np.ndarray[Any, Any]":
    radius = int(truncate * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    matrix = np.zeros((n, n))
    for offset, weight in zip(range(-radius, radius + 1), taps / taps.sum(), strict=True):
        np.add.at(matrix, (np.arange(n), extend(torch.arange(n) + offset, n).numpy()), weight)
    return matrix


def zoom(images: Tensor, factor: float) -> Tensor:
    """The centre, enlarged linearly so that it fills the image."""
    for _ in range(2):  # rows, then columns as rows, which are read four times as fast
        n = images.shape[2]
        first, share = (torch.from_numpy(part).to(images.device) for part in _zoomed_pixels(n, factor))
        rows = images.index_select(2, first)
        images = rows.lerp_(images.index_select(2, (first + 1).clamp(max=n - 1)), share[:, None])
        images = images.transpose(2, 3).contiguous()
    return images


@functools.lru_cache(maxsize=256)
def _zoomed_pixels(n: int, factor: float) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """For each pixel of the result the pixel before its place in the image, and how far behind that one it is."""
    part = math.ceil(n / factor)
    enlarged = round(part * factor)
    kept = np.arange(n) + (enlarged - n) // 2
    place = kept * ((part - 1) / max(1, enlarged - 1)) + (n - part) // 2
    first = np.minimum(np.floor(place), n - 1)
    return first.astype(np.int64), place - first


def correlate(images: Tensor, kernel: "np.ndarray[Any, Any]") -> Tensor:
    """With a kernel that is the same upside down and left to right, extended by `mirror`. kernel: (2r + 1, 2r + 1)."""
    reach = len(kernel) // 2
    while reach and not kernel[0].any():  # the kernel's rim
        kernel, reach = kernel[1:-1, 1:-1], reach - 1
    for axis in (2, 3):
        n = images.shape[axis]
        images = images.index_select(axis, mirror(torch.arange(-reach, n + reach, device=images.device), n))

    def pair(x: Tensor, axis: int, offset: int) -> Tensor:
        """The pixels before and behind, added: they have the same weight."""
        n = x.shape[axis] - 2 * reach
        behind = x.narrow(axis, reach + offset, n)
        return behind if not offset else behind + x.narrow(axis, reach - offset, n)

    total: Tensor | None = None
    for a in range(reach + 1):
        rows = pair(images, 2, a)
        for b in range(reach + 1):
            if weight := float(kernel[reach + a, reach + b]):
                part = pair(rows, 3, b)
                total = part * weight if total is None else total.add_(part, alpha=weight)
    assert total is not None
    return total


def sample_between(images: Tensor, y: Tensor, x: Tensor, extend: Extension) -> Tensor:
    """Linearly between the four pixels around each place. y, x: (n, h, w) float64, in pixels."""
    height, width = images.shape[2:]
    top, left = y.floor(), x.floor()
    down, along = (y - top)[:, None], (x - left)[:, None]
    rows, columns = ([extend(first.long() + k, n) for k in (0, 1)] for first, n in ((top, height), (left, width)))
    flat = images.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        return flat.gather(2, index).view(images.shape)

    upper, lower = (torch.lerp(at(row, columns[0]), at(row, columns[1]), along) for row in rows)
    return torch.lerp(upper, lower, down)

"""Checks that a feed delivers what it should: the pixels show which images, windows and boxes they come from.

In a check every image is its own class, so a target says which image it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from paribus.bench.data.pipelines import MEAN, PAD, STD, ImageArrays, InputTask, Pair
from paribus.bench.techniques.mixing import cutmix_error
from paribus.core.streams import stream

WRONG = float("inf")
N = 64  # images of a check
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def make_noise_images(size: int) -> ImageArrays:
    """N images, none of which looks like a window of another."""
    pixels = torch.randint(0, 256, (N, size, size, 3), generator=stream(0, "bench noise"), dtype=torch.uint8)
    return ImageArrays(pixels.numpy(), list(range(N)), N)


def make_ruler_images(size: int) -> ImageArrays:
    """N images whose red is the column and whose green is the row, in grey levels; blue identifies the image."""
    line = np.arange(size, dtype=np.uint8)
    images = np.empty((N, size, size, 3), dtype=np.uint8)
    images[..., 0], images[..., 1] = line[None, None, :], line[None, :, None]
    images[..., 2] = (np.arange(N, dtype=np.uint8) * 4)[:, None, None]
    return ImageArrays(images, list(range(N)), N)


def read_epoch(feed: Iterator[Pair], task: InputTask) -> Pair | None:
    """The first epoch of a check's images, on the CPU; None if it is of another shape, type or order than training
    input: every image once, not sorted."""
    batches = [(x.cpu(), y.cpu()) for x, y in islice(feed, N // task.batch)]
    shape = (task.batch, 3, task.size, task.size)
    if any(x.shape != shape or x.dtype != torch.float32 or len(y) != task.batch for x, y in batches):
        return None
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if targets.ndim == 1 and (len(set(targets.tolist())) < N or torch.equal(targets, targets.sort().values)):
        return None
    return inputs, targets


def normalise_pixels(pixels: Tensor) -> Tensor:
    """(..., 3, h, w) uint8 to the inputs they should become."""
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    return (pixels.double() / 255 - mean) / std


def to_grey_levels(inputs: Tensor) -> Tensor:
    """Inputs to unrounded grey levels, float64."""
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (MEAN, STD))
    return (inputs.double() * std + mean) * 255


def window_error(feed: Iterator[Pair], task: InputTask, source: ImageArrays) -> float:
    """The largest |input − normalised pixel| where each input is a window of its padded image, perhaps mirrored; inf if
    one is not, or if the windows or flips are not spread as random ones are."""
    found = read_epoch(feed, task)
    if found is None:
        return WRONG
    worst, positions, mirrored = 0.0, set[tuple[int, int]](), 0
    padded = torch.nn.functional.pad(torch.from_numpy(source.images).permute(0, 3, 1, 2), (PAD,) * 4)
    for x, label in zip(*found, strict=True):
        pixels = to_grey_levels(x).round().to(torch.uint8)
        windows = padded[label].unfold(1, task.size, 1).unfold(2, task.size, 1)  # (3, 9, 9, size, size)
        for flip, seen in enumerate((pixels, pixels.flip(2))):
            hits = (windows == seen[:, None, None]).all(0).flatten(2).all(2).nonzero().tolist()
            if hits:
                positions.add(tuple(hits[0]))
                mirrored += flip
                worst = max(worst, float((x - normalise_pixels(pixels)).abs().max()))
                break
        else:
            return WRONG
    spread = len(positions) > N // 3 and N // 5 < mirrored < N - N // 5
    return worst if spread else WRONG


def box_error(feed: Iterator[Pair], task: InputTask, source: ImageArrays) -> float:
    """The largest deviation in grey levels from a box of the ruler image, resized; inf if a box lies outside the image,
    has an area or shape that RandomResizedCrop does not draw, or if the boxes are not spread as random ones are."""
    found = read_epoch(feed, task)
    if found is None:
        return WRONG
    side, worst, mirrored = source.images.shape[1], 0.0, 0
    areas: list[float] = []
    for x, label in zip(*found, strict=True):
        levels = to_grey_levels(x)
        columns, left, width, flip = _fit_box(levels[0].mean(0))
        rows, top, height, upside_down = _fit_box(levels[1].mean(1))
        inside = min(left, top) > -2 and left + width < side + 2 and top + height < side + 2
        area, ratio = width * height / side**2, width / max(height, 1e-9)
        drawn = SCALE[0] * 0.9 < area < SCALE[1] * 1.05 and RATIO[0] * 0.93 < ratio < RATIO[1] * 1.07
        if not inside or not drawn or upside_down:
            return WRONG
        blue = torch.full_like(levels[2], 4.0 * float(label))
        expected = torch.stack((columns.expand_as(blue), rows[:, None].expand_as(blue), blue))
        worst = max(worst, float((levels - expected).abs().max()))
        mirrored += flip
        areas.append(area)
    mean, spread = float(np.mean(areas)), float(np.std(areas))
    random = 0.3 < mean < 0.7 and spread > 0.1 and N // 5 < mirrored < N - N // 5
    return worst if random else WRONG


def _fit_box(levels: Tensor) -> tuple[Tensor, float, float, bool]:
    """From a ruler's levels along one axis of an input: what they should be, and start, extent and direction."""
    n = len(levels)
    positions = torch.arange(n, dtype=torch.float64) + 0.5
    middle = slice(n // 8, n - n // 8)  # where a small box is enlarged, the border repeats its last pixel
    x, y = positions[middle] - positions[middle].mean(), levels[middle] - levels[middle].mean()
    slope = float((x * y).sum() / (x * x).sum())
    start = float(levels[middle].mean() - slope * positions[middle].mean())
    flip, extent = slope < 0, abs(slope) * n
    first = (start + slope * n if flip else start) + 0.5  # a pixel's level is the position of its centre minus one half
    return (start + slope * positions).clamp(first, first + extent - 1), first, extent, flip


def mix_error(feed: Iterator[Pair], task: InputTask, source: ImageArrays) -> float:
    """`cutmix_error` of batches whose images are not otherwise augmented; inf if nothing is mixed."""
    found = [(x.cpu(), y.cpu()) for x, y in islice(feed, 4)]
    images = torch.from_numpy(source.images).permute(0, 3, 1, 2)
    worst, is_any_mixed = 0.0, False
    for inputs, weights in found:
        if weights.shape != (task.batch, N) or inputs.dtype != torch.float32:
            return WRONG
        pixels = to_grey_levels(inputs).round().to(torch.uint8)
        owners = torch.tensor([_find_owner(p, w, images) for p, w in zip(pixels, weights, strict=True)])
        if len(set(owners.tolist())) < task.batch:
            return WRONG
        is_any_mixed |= bool((weights.max(1).values < 1).any())
        worst = max(worst, cutmix_error(images[owners], pixels, weights[:, owners]))
        worst = max(worst, float((inputs - normalise_pixels(pixels)).abs().max()))
    return worst if is_any_mixed else WRONG


def _find_owner(pixels: Tensor, weights: Tensor, images: Tensor) -> int:
    """Which image a box of another was pasted into: the one whose pixels are missing in exactly one box."""
    candidates = weights.nonzero().flatten().tolist()
    for own in candidates:
        missing = (pixels != images[own]).any(0)
        rows, columns = missing.any(1), missing.any(0)
        if torch.equal(rows[:, None] & columns[None, :], missing) and _is_one_run(rows) and _is_one_run(columns):
            return own
    return candidates[0] if candidates else 0


def _is_one_run(line: Tensor) -> bool:
    return int((line[1:] & ~line[:-1]).sum()) + int(line[0]) <= 1

"""What cameras, screens and file formats do: contrast, saturation, elastic shifts, large pixels, JPEG."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import round_to_levels
from paribus.evaluators.corruption_kinds.resampling import mirror, reflect, sample_between, smooth


def contrast(images: Tensor, draws: Draws, factor: float) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def saturate(images: Tensor, draws: Draws, factor: float, more: float) -> Tensor:
    """Of HSV, at equal hue and value. A grey pixel has the hue 0, so what is added makes it red. A grey image has no
    saturation and stays."""
    if images.shape[1] == 1:
        return images
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    old = (value - least) / value.clamp(min=1 / 255)
    new = (old * factor + more).clamp(0, 1)
    coloured = value - (value - images) * (new / torch.where(old > 0, old, 1))
    is_red = torch.tensor([True, False, False], device=images.device).view(1, 3, 1, 1)
    return torch.where(old > 0, coloured, torch.where(is_red, value, value * (1 - new)))


def elastic_transform(images: Tensor, draws: Draws, size: float, sigma: float, jitter: float) -> Tensor:
    """An affine map that moves three corners of a square at the centre, then a smooth field of shifts. All lengths are
    shares of the shorter side."""
    side = min(images.shape[2:])
    images = _move_corners(images, (2 * draws.uniform("corners", 3, 2) - 1) * (jitter * side))
    shifts = 2 * draws.uniform("shifts", 2, *images.shape[2:]) - 1
    down, along = (smooth(shifts, sigma * side, 3.0, reflect) * (size * side)).unbind(1)
    y, x = (torch.arange(n, dtype=torch.float64, device=images.device) for n in images.shape[2:])
    return sample_between(images, y[:, None] + down, x + along, reflect)


def _move_corners(images: Tensor, moves: Tensor) -> Tensor:
    """moves: (n, 3, 2), columns and rows, of the corners behind-below, behind-above and before-above the centre."""
    height, width = images.shape[2:]
    reach = min(height, width) // 3
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64, device=images.device)
    centre = torch.tensor([width // 2, height // 2], dtype=torch.float64, device=images.device)
    corners = centre + reach * signs
    a, b, c = (corners + moves).unbind(1)
    # where a pixel comes from: the linear map that takes a - b to (0, 2 reach) and b - c to (2 reach, 0)
    (px, py), (qx, qy) = (a - b).unbind(1), (b - c).unbind(1)
    scale = (2 * reach / (px * qy - py * qx))[:, None, None]
    y, x = (torch.arange(n, dtype=torch.float64, device=images.device) for n in (height, width))
    dx, dy = x - c[:, 0, None, None], y[:, None] - c[:, 1, None, None]
    px, py, qx, qy = (value[:, None, None] for value in (px, py, qx, qy))
    from_x = corners[2, 0] + scale * (px * dy - py * dx)
    from_y = corners[2, 1] + scale * (qy * dx - qx * dy)
    return sample_between(images, from_y, from_x, mirror)


def pixelate(images: Tensor, draws: Draws, share: float) -> Tensor:
    """To fewer pixels and back, each way as Pillow's box filter has it: whole pixels, 8 bits after each axis."""
    small = [int(n * share) for n in images.shape[2:]]
    for sizes in (small, images.shape[2:]):
        for axis in (3, 2):
            images = _resize_box(images, axis, sizes[axis - 2])
    return images


def _resize_box(images: Tensor, axis: int, size: int) -> Tensor:
    n = images.shape[axis]
    reach = 0.5 * max(1.0, n / size)
    matrix = np.zeros((size, n))
    for k in range(size):
        centre = (k + 0.5) * n / size
        matrix[k, max(0, int(centre - reach + 0.5)) : min(n, int(centre + reach + 0.5))] = 1
    weights = torch.from_numpy(matrix / matrix.sum(1, keepdims=True)).to(images.device)
    return round_to_levels(images @ weights.T if axis == 3 else weights @ images)


def jpeg_compression(images: Tensor, draws: Draws, quality: float) -> Tensor:
    """By Pillow, on the host."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    out = np.empty_like(pixels)
    for image, place in zip(pixels, out, strict=True):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as compressed:
            place[...] = np.asarray(compressed).reshape(image.shape)
    return torch.from_numpy(out).to(images.device).permute(0, 3, 1, 2).double() / 255

"""Pillow's affine transform for whole batches, each image with its own matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paribus.data.ops.input_spec import Interpolation


def affine_transform(images: Tensor, matrix: Tensor, fill: Sequence[int], interpolation: Interpolation) -> Tensor:
    """Image.transform(size, AFFINE, matrix, interpolation, fillcolor=fill) of each image.

    images: (b, h, w, c) uint8. matrix: (b, 6) float64, from output pixels to input pixels: x is
    m0 · (x + ½) + m1 · (y + ½) + m2, y likewise with the last three. fill: c grey levels for pixels outside the image.
    In float64 and in the order of libImaging/Geometry.c, so bit-exact with Pillow for the same matrix.
    """
    b, height, width, channels = images.shape
    y, x = (torch.arange(n, device=images.device, dtype=torch.float64) + 0.5 for n in (height, width))
    m = matrix[:, :, None, None].unbind(1)
    at_x, at_y = (m[i] * x + m[i + 1] * y[:, None] + m[i + 2] for i in (0, 3))
    outside = (at_x < 0) | (at_x >= width) | (at_y < 0) | (at_y >= height)
    at_x, at_y = at_x - 0.5, at_y - 0.5
    left, top = at_x.floor(), at_y.floor()
    dx, dy = (at_x - left)[..., None], (at_y - top)[..., None]
    reach = range(-1, 3) if interpolation == "bicubic" else range(2)
    columns = [(left.long() + k).clamp(0, width - 1) for k in reach]
    rows = [(top.long() + k).clamp(0, height - 1) for k in reach]
    start = torch.arange(b, device=images.device).view(b, 1, 1) * height
    pixels = images.reshape(-1, channels)

    def along(row: Tensor) -> Tensor:
        begin = (start + row) * width
        return _interpolate([pixels[begin + column].double() for column in columns], dx)

    value = _interpolate([along(row) for row in rows], dy).clamp(0, 255).to(torch.uint8)
    levels = [torch.where(outside, level, value[..., i]) for i, level in enumerate(fill[:channels])]
    return torch.stack(levels, 3)


def _interpolate(values: list[Tensor], share: Tensor) -> Tensor:
    """The value at the fraction `share` of the way from the first (bicubic: second) value to the next."""
    if len(values) == 2:
        return values[0] + (values[1] - values[0]) * share
    a, b, c, d = values
    first, second, third = c - a, 2 * (a - b) + c - d, -a + b - c + d
    return b + share * (first + share * (second + share * third))


def rotation_matrices(degrees: Tensor, height: int, width: int) -> Tensor:
    """(b, 6) matrices of Image.rotate: by this angle, counterclockwise, around the centre."""
    angle = -torch.deg2rad(degrees.double())
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2.0, height / 2.0
    return torch.stack((cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y), 1)

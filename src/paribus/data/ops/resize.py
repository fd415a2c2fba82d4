"""Pillow's resize of a box of each image, for whole batches in integer tensor operations: bit-exact.

libImaging/Resample.c: the weights of an output pixel are the filter, stretched by the scale when an image shrinks
(antialias), normalised in float64 and rounded to 22 fractional bits. Of the two passes the horizontal one comes first,
unless the height loses more than twice as many pixels as the width (Pillow 13; earlier versions have no such exception
and differ there by a few grey levels). The first pass's result is rounded to uint8. Integer sums are the same in any
order, so a CPU, a CUDA device and the kernel of inputs.c agree.
"""

import math

import torch
from torch import Tensor

from paribus.data.ops.input_spec import Interpolation
from paribus.data.ops.transfer import to_device

BITS = 22
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


def resized_crop(
    images: Tensor, rows: Tensor, boxes: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Tensor:
    """`image.crop(box).resize(size, resample)` of each chosen image.

    images: (n, H, W, c) uint8; rows: (b,) int64, indices of the samples; boxes: (b, 4) int64 top, left, height, width,
    inside the image, on any device; size: height and width of the result. Returns (b, height, width, c) uint8.

    Each image needs one of the two orders of the passes: if the boxes are on the host, it gets that one only.
    """
    first_down = vertical_first(boxes[:, 2], boxes[:, 3], size)

    def across_first(rows: Tensor, boxes: Tensor) -> Tensor:
        top, left, height, width = boxes.unbind(1)
        across = _resize_axis(images[rows], 2, left, width, size[1], interpolation)
        return _resize_axis(across, 1, top, height, size[0], interpolation)

    def down_first(rows: Tensor, boxes: Tensor) -> Tensor:
        top, left, height, width = boxes.unbind(1)
        down = _resize_axis(images[rows], 1, top, height, size[0], interpolation)
        return _resize_axis(down, 2, left, width, size[1], interpolation)

    if not boxes.is_cpu:  # to know which, the host would have to wait for the device
        both = down_first(rows, boxes), across_first(rows, boxes)
        return torch.where(first_down[:, None, None, None], *both)
    chosen = ((across_first, ~first_down), (down_first, first_down))
    parts = [(order, at) for order, which in chosen if len(at := which.nonzero()[:, 0])]
    if len(parts) == 1:
        return parts[0][0](rows, *to_device(images.device, boxes))
    out = images.new_empty(len(rows), *size, images.shape[3])
    for order, at in parts:
        there, some = to_device(images.device, at, boxes[at])
        out.index_copy_(0, there, order(rows[there], some))
    return out


def vertical_first(height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether Pillow 13 takes the vertical pass first for an image of this size, (b,)."""
    return height - size[0] > 2 * (width - size[1]).clamp(min=0)


def _resize_axis(images: Tensor, axis: int, start: Tensor, length: Tensor, size: int, filter: Interpolation) -> Tensor:
    """One pass: (b, h, w, c) with `axis` resized to `size` from `length` pixels at `start`."""
    first, weights = taps(length, size, images.shape[axis], filter)
    total = None
    shape = (len(images), 1, -1, 1) if axis == 2 else (len(images), -1, 1, 1)
    last = (length - 1)[:, None]
    for k in range(weights.shape[2]):
        # beyond a pixel's own taps the weights are 0, so any index will do
        place = start[:, None] + torch.minimum(first + k, last)
        index = place.view(shape).expand(*images.shape[:axis], size, *images.shape[axis + 1 :])
        part = images.gather(axis, index) * weights[:, :, k].view(shape)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.add_(1 << (BITS - 1)).bitwise_right_shift_(BITS).clamp_(0, 255).to(torch.uint8)


def taps(length: Tensor, size: int, longest: int, filter: Interpolation) -> tuple[Tensor, Tensor]:
    """Which input pixels make each output pixel: the first, (b, size) int64, and the weights from there on, (b, size,
    k) int32 in units of 2^-22, 0 beyond the last.

    length: (b,) int64 input pixels, at most `longest`, so that the number of taps is known without reading the values.
    """
    scale = length.double() / size
    stretch = scale.clamp(min=1.0)
    support = SUPPORT[filter] * stretch
    most = math.ceil(SUPPORT[filter] * max(longest / size, 1.0)) * 2 + 1
    centre = (torch.arange(size, device=length.device) + 0.5) * scale[:, None]
    first = (centre - support[:, None] + 0.5).long().clamp_(min=0)
    end = torch.minimum((centre + support[:, None] + 0.5).long(), length[:, None])
    k = torch.arange(most, device=length.device)
    at = ((k + first[:, :, None]) - centre[:, :, None] + 0.5) * (1.0 / stretch)[:, None, None]
    raw = torch.where(k < (end - first)[:, :, None], _FILTERS[filter](at), 0.0)
    total = raw[:, :, 0].clone()
    for i in range(1, most):  # in Pillow's order: float64 sums depend on it
        total += raw[:, :, i]
    weights = torch.where(total[:, :, None] != 0.0, raw / total[:, :, None], raw) * (1 << BITS)
    return first, (torch.where(weights < 0, -0.5, 0.5) + weights).to(torch.int32)


def _bilinear(x: Tensor) -> Tensor:
    x = x.abs()
    return torch.where(x < 1.0, 1.0 - x, 0.0)


def _bicubic(x: Tensor) -> Tensor:
    a, x = -0.5, x.abs()
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0))


_FILTERS = {"bilinear": _bilinear, "bicubic": _bicubic}

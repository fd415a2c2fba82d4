"""Crop, flip and normalisation of whole batches in tensor operations, on any device: the reference with which the
kernel of inputs.c is bit-exact.
"""

import torch
from torch import Tensor


def pad_images(images: Tensor, pad: int) -> Tensor:
    """(n, h, w, c) with `pad` black pixels on every side."""
    if pad == 0:
        return images
    n, h, w, c = images.shape
    out = images.new_zeros(n, h + 2 * pad, w + 2 * pad, c)
    out[:, pad : pad + h, pad : pad + w] = images
    return out


def crop(images: Tensor, rows: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """A height×width window of each chosen image, at its own offset.

    images: (n, H, W, c) contiguous; rows, top, left: (b,) int64. Returns (b, height, width, c).
    A row of a window is one contiguous run of width·c values, so windows are gathered by rows instead of by pixels.
    """
    n, full_height, full_width, c = images.shape
    runs = images.view(n, full_height, full_width * c).unfold(2, width * c, c)  # (n, H, W - width + 1, width·c), a view
    y = top[:, None] + torch.arange(height, device=images.device)
    return runs[rows[:, None], y, left[:, None]].view(-1, height, width, c)


def hflip(images: Tensor, mirrored: Tensor) -> Tensor:
    """(b, h, w, c) with the chosen images mirrored left to right; mirrored: (b,) bool."""
    return torch.where(mirrored[:, None, None, None], images.flip(2), images)


def normalize(images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> Tensor:
    """(b, h, w, c) uint8 to (b, c, h, w) of mean's dtype: (x / 255 − mean) / std, per channel.

    mean, std: (c,) in units of the 0–1 range.
    """
    scale, shift = scale_and_shift(mean, std)
    out = images.to(mean.dtype) * scale + shift
    # a permuted view of (b, h, w, c) is channels_last already, so only the contiguous layout costs a copy
    return out.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def scale_and_shift(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """The factor by which a grey level is multiplied, and the summand added to the product."""
    return 1 / (255 * std), -mean / std


def downsample(images: Tensor, size: int) -> Tensor:
    """(n, h, w, c) uint8 to (n, size, size, c) by area averaging, rounded to the nearest grey level. Once, at
    loading."""
    out = [
        torch.nn.functional.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float(), size).round().to(torch.uint8)
        for part in images.split(4096)
    ]
    return torch.cat(out).permute(0, 2, 3, 1).contiguous()

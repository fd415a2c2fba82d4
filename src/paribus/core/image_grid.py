"""Images as one picture: 8-bit pixels, a grid, a PNG. Pillow is imported where a file is made."""

import io

import torch
from torch import Tensor

GAP_PX = 2  # white, between two images and around all


def to_bytes(pixels: Tensor) -> Tensor:
    """(n, c, h, w) pixels, 0 to 1, to (n, h, w, 1 or 3) uint8: the colours of 3 or 4 channels, else the first
    channel."""
    kept = pixels[:, : 3 if pixels.shape[1] in (3, 4) else 1]
    return (kept.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def make_grid(images: Tensor, columns: int) -> Tensor:
    """(n, h, w, c) uint8 images, row by row, as one (height, width, c); what the last row lacks is white."""
    n, h, w, c = images.shape
    rows, columns = -(-n // columns), min(n, columns)
    height, width = (count * (side + GAP_PX) + GAP_PX for count, side in ((rows, h), (columns, w)))
    grid = torch.full((height, width, c), 255, dtype=torch.uint8, device=images.device)
    for place, image in enumerate(images):
        top, left = (k * (side + GAP_PX) + GAP_PX for k, side in ((place // columns, h), (place % columns, w)))
        grid[top : top + h, left : left + w] = image
    return grid


def encode_png(image: Tensor) -> bytes:
    """(height, width, 1 or 3) uint8 as the bytes of a PNG, grey or RGB. A NaN pixel has become black by now."""
    from PIL import Image  # comes with torchvision

    array = image.cpu().numpy()
    out = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(out, "PNG", optimize=True)
    return out.getvalue()

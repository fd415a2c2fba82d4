"""What a technique does to the inputs, to look at: a grid of the first training batch with its targets as captions.

A batch is a pure function of (data, seed, step), so making one here leaves the training unchanged.
"""

import io
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.mixing import to_soft_targets
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, Loader
from paribus.core.runfolder import write_atomically
from paribus.recipe.build import build_transforms
from paribus.recipe.recipe import Recipe
from paribus.tracking.wandb import INPUTS, WandB

TILE_PX, CAPTION_PX, GAP_PX = 128, 16, 6  # pixels: about an image's longer side, its caption, between two images


def write_input_grid(recipe: Recipe, data: DataSets, loader: Loader, total: int, place: DeviceContext) -> None:
    """Write inputs.png into the run folder if the W&B tracker has `images`: rank 0's part of the global batch.

    A folder that cannot be written gives a warning only.
    """
    wandb_trackers = [t for t in recipe.tracker.values() if isinstance(t, WandB) and t.effective_mode != "disabled"]
    count = max((t.images for t in wandb_trackers), default=0)
    path = recipe.folder / INPUTS
    if not count or path.exists():
        return
    batch, at = loader.batch(0), Progress(0, total, recipe.seed, loader.steps_per_epoch)
    for transform in build_transforms(recipe, data, place).values():
        batch = transform(batch, at)
    weights = to_soft_targets(batch.targets, batch.classes, torch.float32)[:count]
    pictures = [*denormalize(batch.inputs[:count], data.mean, data.std)]
    try:
        write_image_grid(pictures, [format_caption(w.tolist(), data.names) for w in weights], path)
    except OSError as error:
        print(f"warning: {path} cannot be written: {error.strerror}", file=sys.stderr)


def denormalize(inputs: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(n, c, h, w) normalised inputs back to (n, h, w, 1 or 3) uint8 on the CPU: the colours of 3 or 4 channels,
    else the first channel."""
    scale, shift = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (std, mean))
    pixels = ((inputs.float().cpu() * scale + shift).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels[:, : 3 if len(mean) in (3, 4) else 1].permute(0, 2, 3, 1).contiguous()


def format_caption(weights: list[float], names: tuple[str, ...] = (), max_classes: int = 3) -> str:
    """Class weights to "cat 0.63 + ship 0.37", the heaviest classes first; a hard target to "cat".

    Classes without names are called by their indices: "#3 0.63 + #8 0.37".
    """
    ranked = sorted((-weight, index) for index, weight in enumerate(weights) if weight >= 0.005)
    labels = [(names[index] if names else f"#{index}", -weight) for weight, index in ranked[:max_classes]]
    if len(ranked) == 1:
        return labels[0][0]
    return " + ".join(f"{name} {weight:.2f}" for name, weight in labels) + (" + …" if len(ranked) > max_classes else "")


def write_image_grid(images: list[Tensor], captions: list[str], path: Path) -> None:
    """Write (h, w, 1 or 3) uint8 images as one PNG, each above its caption, enlarged by whole pixels."""
    from PIL import Image, ImageDraw, ImageFont  # comes with torchvision

    height, width, _ = images[0].shape
    factor = max(1, TILE_PX // max(height, width))
    font: Any = ImageFont.load_default(CAPTION_PX - 3)
    cell_w = max(width * factor, *(math.ceil(font.getlength(text)) for text in captions)) + GAP_PX
    cell_h = height * factor + CAPTION_PX + GAP_PX
    columns = math.ceil(math.sqrt(len(images)))
    sheet = Image.new("RGB", (columns * cell_w + GAP_PX, math.ceil(len(images) / columns) * cell_h + GAP_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, text) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP_PX + i % columns * cell_w, GAP_PX + i // columns * cell_h
        pixels = Image.fromarray(image.expand(-1, -1, 3).numpy())
        sheet.paste(pixels.resize((width * factor, height * factor), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + height * factor), text, fill="black", font=font)
    png = io.BytesIO()
    sheet.save(png, "PNG")
    write_atomically(path, png.getvalue())

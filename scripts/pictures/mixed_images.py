"""docs/pictures/mixed_images.webp: what each image technique makes of the same photographs, with the targets beneath.

The photographs are the two that scikit-learn brings (`load_sample_images`), both under Creative Commons BY 2.0:
china.jpg, "some rights reserved by danielbuechele", and flower.jpg, which its README attributes to danielbuechele, too,
and took from the page of vultilion. They are cropped here, and changed as the picture shows. The crops form a batch of
four, which goes through the transforms of a recipe, as at a step of training.

PGD training has no row: it changes an image by at most 8/255, against a network that is trained, and no eye sees it.
WebP with loss, since photographs as PNG would take over a megabyte. Encoders differ in their bytes, so the captions
stand in the file's description, and a test compares the tiles as pixels.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.techniques.cutmix import CutMix
from paribus.techniques.cutout import Cutout
from paribus.techniques.erasing import RandomErasing
from paribus.techniques.mixup import Mixup

FILE = "mixed_images.webp"
CLASSES = ("temple", "flower")
SIDE, GAP, CAPTION, MARGIN, NAMES = 216, 10, 34, 14, 128
CROPS = ((0, 20, 60), (1, 40, 170), (0, 190, 140), (1, 130, 280))  # photograph, top, left; each of SIZE pixels
SIZE = 224
STEP = 1368  # one at which every temple meets a flower
MEAN, STD = 0.45, 0.25  # one for all channels is enough for a picture
_PAPER, _INK, _FAINT = (254, 254, 254), (27, 32, 38), (95, 104, 115)
TECHNIQUES: dict[str, tuple[Callable[[Batch, Progress], Batch], str]] = {
    "as loaded": (lambda batch, at: batch, ""),
    "cutmix": (CutMix(), "alpha = 1"),
    "mixup": (Mixup(), "alpha = 1"),
    "cutout": (Cutout(length=SIZE // 2), f"length = {SIZE // 2}"),
    "erasing": (RandomErasing(prob=1), "prob = 1"),
}


@dataclass(frozen=True)
class Grid:
    """tiles: technique -> (n, side, side, 3) uint8. captions: technique -> its settings, then one for each tile."""

    tiles: dict[str, np.ndarray]
    captions: dict[str, list[str]]


def compute(step: int = STEP) -> Grid:
    """What the techniques make of the batch at this step."""
    loaded, tiles, captions = load_batch(), dict[str, np.ndarray](), dict[str, list[str]]()
    for name, (transform, settings) in TECHNIQUES.items():
        batch = transform(loaded, Progress(step, total=STEP + 1, seed=0))
        tiles[name] = _to_pixels(batch.inputs)
        targets = _to_weights(batch.targets)
        lam = float(targets[0, int(loaded.targets[0])])  # one for all images of a batch
        captions[name] = [f"{settings}, λ = {lam:.2f}" if lam < 1 else settings, *map(_format_target, targets)]
    return Grid(tiles, captions)


def load_batch() -> Batch:
    """Four crops, normalised, with the class of each."""
    photographs = load_sample_images().images
    crops = [photographs[which][top : top + SIZE, left : left + SIZE] for which, top, left in CROPS]
    inputs = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    n = len(CROPS)
    labels, ids = torch.tensor([which for which, _, _ in CROPS]), torch.arange(n)
    return Batch((inputs - MEAN) / STD, labels, ids, positions=ids, size=n, classes=len(CLASSES))


def _to_pixels(inputs: Tensor) -> np.ndarray:
    return ((inputs * STD + MEAN).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _to_weights(targets: Tensor) -> Tensor:
    return targets if targets.is_floating_point() else torch.nn.functional.one_hot(targets, len(CLASSES)).float()


def _format_target(weights: Tensor) -> str:
    """The classes with a weight, the greatest first: "temple 0.71, flower 0.29"."""
    found = sorted(
        ((weight, name) for weight, name in zip(weights.tolist(), CLASSES, strict=True) if weight), reverse=True
    )
    return found[0][1] if len(found) == 1 else ", ".join(f"{name} {weight:.2f}" for weight, name in found)


def place(row: int, column: int) -> tuple[int, int]:
    """Left and top of a tile."""
    return MARGIN + NAMES + column * (SIDE + GAP), MARGIN + row * (SIDE + CAPTION)


def draw(grid: Grid) -> Image.Image:
    """An opaque page, so that it reads the same on light and dark."""
    rows, columns = len(grid.tiles), len(CROPS)
    width = place(0, columns)[0] - GAP + MARGIN
    picture = Image.new("RGB", (width, place(rows, 0)[1] + MARGIN - 6), _PAPER)
    pen = ImageDraw.Draw(picture)
    for row, (name, tiles) in enumerate(grid.tiles.items()):
        top = place(row, 0)[1]
        pen.text((MARGIN, top + 4), name, _INK, _font(20, bold=True))
        settings, *targets = grid.captions[name]
        for i, setting in enumerate(settings.split(", ")):
            pen.text((MARGIN, top + 34 + 22 * i), setting, _FAINT, _font(16))
        for column, tile in enumerate(tiles):
            left, top = place(row, column)
            picture.paste(Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
            pen.text((left, top + SIDE + 5), targets[column], _INK, _font(16))
    return picture


def _font(size: int, bold: bool = False) -> Any:
    """matplotlib's own copy of DejaVu Sans, which is the same everywhere."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)


def encode(picture: Image.Image, grid: Grid) -> bytes:
    about = Image.Exif()
    about[0x010E] = json.dumps(grid.captions)  # ImageDescription
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=72, method=6, exif=about.tobytes())
    return out.getvalue()


def read_captions(path: Path) -> dict[str, list[str]]:
    with Image.open(path) as picture:
        return json.loads(picture.getexif()[0x010E])


def make() -> dict[str, bytes]:
    grid = compute()
    return {FILE: encode(draw(grid), grid)}

"""Small trees of images for tests, sets made of them, and smooth random pictures: every crop of one looks different."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from paribus.core.streams import stream
from paribus.data.images import ImageSet

PETS = ("cat", "dog")


def picture(name: str | int, height: int = 30, width: int = 40) -> Image.Image:
    """A smooth picture that belongs to its name: resizing it well or badly makes a difference."""
    coarse = torch.rand(1, 3, 5, 5, generator=stream(0, "picture", name))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return Image.fromarray((fine[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy())


def tree(
    root: Path,
    classes: int = 3,
    train: int = 8,
    val: int = 5,
    sizes: tuple[tuple[int, int], ...] = ((40, 40),),
    ending: str = ".png",
) -> Path:
    """root/{train,val}/class_k/*, sizes (height, width) in turn."""
    for split, count in (("train", train), ("val", val)):
        for k in range(classes):
            folder = root / split / f"class_{k}"
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = sizes[(k * count + i) % len(sizes)]
                picture(f"{split}{k}/{i}", height, width).save(folder / f"{i:03}{ending}", quality=90)
    return root


def pets(root: Path, train: int = 3, val: int = 2, classes: Sequence[str] = PETS) -> Path:
    """root/{train,val}/{cat,dog}/{cat,dog}_i.png, of many sizes. train and val: images a class."""
    seed = 0
    for split, count in (("train", train), ("val", val)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(seed, 30 + seed % 7, 40 + i).save(folder / f"{name}_{i}.png")
                seed += 1
    return root


def images(where: Path, /, **settings: Any) -> ImageSet:
    """The set in such a tree, at 16 pixels, decoded in this process."""
    return ImageSet(**{"name": "folder", "root": str(where), "form": "folder", "size": 16, "workers": 0, **settings})

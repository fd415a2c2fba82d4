"""Small ImageFolder trees for tests: smooth random pictures, so that every crop of one looks different."""

from pathlib import Path

import torch
from PIL import Image

from paribus.core.streams import stream


def picture(name: str, height: int, width: int) -> Image.Image:
    """A smooth picture that belongs to its name."""
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

"""Data sets of the right size and shape without a file: what the recipes' data classes read is replaced, the rest is
theirs.

Pixels are zeros. Their values do not matter, since nothing on a fake device has any.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paribus.data import biased_mnist, cifar, cluttered_mnist, digit_tiles, domain_digits, images
from paribus.data.loaders import decode_batch
from paribus.data.loaders.in_memory import Images
from paribus.data.packs.open import Pack, PackedSplit
from paribus.data.trees.manifest import Manifest

VAL_IMAGES = 20


class BlankImages:
    """A folder's images (data/trees/source.py): all of them one blank square."""

    unread = ""

    def __init__(self, name: str, count: int, classes: int) -> None:
        self.name = name
        self.classes = _class_ids(classes)
        self.targets = torch.arange(count) % classes
        self._image = Image.new("RGB", (256, 256))

    def __len__(self) -> int:
        return len(self.targets)

    def image(self, index: int) -> Image.Image:
        return self._image

    def image_name(self, index: int) -> str:
        return f"{self.name}/{index}.png"


@contextmanager
def blank_data(train_images: int) -> Iterator[None]:
    """Inside, CIFAR, MNIST, packs and folders have this many blank training images."""
    counts = {"train": train_images, "val": VAL_IMAGES}

    def read_cifar(name: str, folder: Path, label: str, files: dict[str, str]) -> Images:
        count = counts["val" if any("test" in file for file in files) else "train"]
        return Images(_blank(count, 32), torch.arange(count) % int(name.removeprefix("cifar")), torch.arange(count))

    def read_mnist(root: Path, split: str) -> tuple[Tensor, Tensor]:
        count = counts["train" if split == "train" else "val"]
        return torch.zeros(count, 28, 28, dtype=torch.uint8), torch.arange(count) % 10

    def open_pack(folder: Path, name: str, size: int, source_root: Path | None, channels: int) -> Pack:
        classes = _count_classes(name)

        def split(count: int) -> PackedSplit:
            return PackedSplit(_blank(count, size), torch.arange(count) % classes, torch.arange(count), ())

        splits = {key: split(count) for key, count in counts.items()}
        return Pack(folder, name, size, _class_ids(classes), splits, "", (), {})

    def open_source(tree: Any, split: str, known: Manifest | None, channels: int) -> BlankImages:
        return BlankImages(split, counts[split], _count_classes(known.name if known else ""))

    with ExitStack() as stack:
        for module, name, stand_in in (
            (cifar, "_read", read_cifar),
            (biased_mnist, "read_mnist", read_mnist),
            (digit_tiles, "read_mnist", read_mnist),
            (cluttered_mnist, "read_mnist", read_mnist),
            (domain_digits, "read_mnist", read_mnist),
            (images, "open_pack", open_pack),
            (images, "find_tree", lambda root, known: root),
            (images, "open_folder_source", open_source),
            (images, "_warn", lambda text: None),  # of too few images
            # decoding is the workers' part, on the CPU
            (decode_batch, "crop_images", lambda images, crop, draws, flip, out: None),
            (decode_batch, "resize_center_crop", lambda image, size, *_: np.zeros((size, size, 3), np.uint8)),
            (torch.nn.GRU, "forward", _gru_without_cudnn),
        ):
            stack.enter_context(patch.object(module, name, stand_in))
        yield


_gru = torch.nn.GRU.forward


def _gru_without_cudnn(self: torch.nn.GRU, *inputs: Any) -> Any:
    """cuDNN's asks for a driver, which is not here. torch's own launches more, so the table has an upper bound."""
    with torch.backends.cudnn.flags(enabled=False):
        return _gru(self, *inputs)


def _blank(count: int, size: int) -> Tensor:
    return torch.zeros(count, size, size, 3, dtype=torch.uint8)


def _count_classes(name: str) -> int:
    return {"imagenette": 10, "imagenet100": 100, "folder": 5}.get(name, 1000)


def _class_ids(count: int) -> tuple[str, ...]:
    return tuple(f"n{k:08d}" for k in range(count))

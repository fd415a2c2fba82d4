"""Images by index, decoded one at a time: what data.form=folder trains on."""

import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paribus.data.trees.decoding import decode_image
from paribus.data.trees.manifest import Manifest
from paribus.data.trees.select import check_selection, select_images
from paribus.data.trees.tree import Listing, explain_unread, list_images


class Source(Protocol):
    """Images by index, in a fixed order. Picklable, for DataLoader's workers.

    classes: class ids in the order of the targets. targets: (n,) int64, indices into `classes`.
    """

    name: str
    classes: tuple[str, ...]
    targets: Tensor

    def image(self, index: int) -> Image.Image:
        """Mode L, RGB or RGBX for 1, 3 or 4 channels, whatever the file's mode (decoding.py). Raises BadImage, which
        names the file and the reason."""
        ...

    def image_name(self, index: int) -> str:
        """The name used in messages, e.g. train/n01440764/x.JPEG."""
        ...


class FolderSource:
    """The images of a listing. Their names are kept in one bytes object: a million Python strings would be copied into
    each worker, page by page, as their reference counts change."""

    def __init__(self, name: str, part: Listing, channels: int = 3) -> None:
        self._channels = channels
        self.name, self.classes, self.tree, self.split = name, part.classes, part.tree, part.split
        self.targets = torch.tensor(part.targets, dtype=torch.int64)
        self.unread, self.absent = explain_unread(part), part.absent
        encoded = [os.fsencode(path) for path in part.paths]
        self._names = b"".join(encoded)
        self._ends = np.cumsum(
            [len(e) for e in encoded], dtype=np.int64
        )  # NumPy, since reading one element of a tensor takes ten times as long

    def __len__(self) -> int:
        return len(self._ends)

    def image_name(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"{index}: {self.name} {self.split} has {len(self)} images")
        start = 0 if index == 0 else int(self._ends[index - 1])
        return os.fsdecode(self._names[start : int(self._ends[index])])

    def path(self, index: int) -> Path:
        return self.tree / self.image_name(index)

    def image(self, index: int) -> Image.Image:
        return decode_image(os.path.join(self.tree, self.image_name(index)), channels=self._channels)


def open_folder_source(
    root: Path,
    split: str,
    manifest: Manifest | None,
    names: tuple[str, ...] | None = None,
    allow_missing: bool = False,
    channels: int = 3,
) -> FolderSource:
    """One split of a tree. root: the tree itself (trees/tree.py, find_tree). manifest: None for a tree of the user's
    own.

    names: file names of the training images to use (SimCLR's lists), instead of the manifest's rule. allow_missing:
    accept a tree that lacks images or classes. channels: of the images. Raises ConfigError for a missing, empty or
    unexpected class folder.
    """
    part = select_images(list_images(root, split, manifest, allow_missing), manifest, names, allow_missing)
    if not allow_missing:
        check_selection(part)
    return FolderSource(manifest.name if manifest else "folder", part, channels)

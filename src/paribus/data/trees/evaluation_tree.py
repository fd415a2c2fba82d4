"""A tree of images for evaluation alone: folders of classes under val/, or at its top, and no train/. No torch."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count, format_list
from paribus.data.trees.tree import Listing, list_class_images, list_folders, list_loose_images


def find_class_folders(root: Path, classes: Sequence[str]) -> Path | None:
    """root/val, or root itself if it has a folder of one of these classes or of images; None if it has train/, or is no
    such tree. classes: of the network, () unknown. Raises ConfigError for images without class folders."""
    if (root / "train").is_dir() or not root.is_dir():
        return None
    top = root / "val" if (root / "val").is_dir() else root
    folders = list_folders(top)
    if any(name in classes or list_loose_images(top / name) for name in folders):
        return top.absolute()
    if loose := list_loose_images(top):
        raise ConfigError(
            f"data.root: {top}: {format_count(len(loose), 'image')} without class folders; to evaluate, move each into "
            f"{top}/CLASS; for predictions alone: paribus predict RUN {top}"
        )
    return None


def list_labelled_images(top: Path, classes: Sequence[str]) -> Listing:
    """The images of the class folders in `top`, an absolute path. classes: of the network, in its order, of which some
    may have no folder; (): the folders, sorted. Raises ConfigError for a folder of images of another class."""
    others, found = Counter[str](), dict[str, list[str]]()
    for name in list_folders(top):
        images, rest = list_class_images(top, name)
        if images or name in classes:
            found[name] = images
            others += rest
    classes = tuple(classes or found)
    if strange := [name for name in found if name not in classes]:
        raise ConfigError(
            f"data.root: {top}: {format_count(len(strange), 'folder')} of no class of the network: "
            f"{format_list(strange)}; it knows {format_list(classes)}"
        )
    pairs = [(path, k) for k, name in enumerate(classes) for path in sorted(found.get(name, ()), key=os.fsencode)]
    if not pairs:
        raise ConfigError(f"data.root: {top}: no image in the folders of its classes")
    return Listing(
        top.parent,
        top.name,
        classes,
        tuple(path for path, _ in pairs),
        tuple(k for _, k in pairs),
        others,
        len(list_loose_images(top)),
        tuple(name for name in classes if not found.get(name)),
    )

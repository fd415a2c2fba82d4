"""A tree of images for evaluation alone: folders of classes under val/, or at its top, and no train/. No torch.

Beside class folders of their names it may have folders of their numbers (ImageNet-V2), and folders above them, one
level (SEVERITY/CLASS) or two (ImageNet-C's KIND/SEVERITY/CLASS).
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count, format_list
from paribus.data.trees.tree import Listing, list_class_images, list_folders, list_loose_images

_LEVELS = 2  # of folders above the class folders


def find_class_folders(root: Path, classes: Sequence[str]) -> Path | None:
    """root/val, or root itself if it has a folder of one of these classes or of images, or such folders below; None if
    it has train/, or is no such tree. classes: of the network, () unknown. Raises ConfigError for images without class
    folders."""
    if (root / "train").is_dir() or not root.is_dir():
        return None
    top = root / "val" if (root / "val").is_dir() else root
    if _has_classes(top, classes) or find_groups(top, classes):
        return top.absolute()
    if loose := list_loose_images(top):
        raise ConfigError(
            f"data.root: {top}: {format_count(len(loose), 'image')} without class folders; to evaluate, move each into "
            f"{top}/CLASS; for predictions alone: paribus predict RUN {top}"
        )
    return None


def find_groups(top: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The folders that have class folders in them, relative to `top`, sorted; () if `top` has them itself, or none.
    classes: of the network; without them it is not known what a class folder is."""
    if not classes or _has_classes(top, classes):
        return ()
    return tuple(_walk_groups(top, "", set(classes), _LEVELS))


def find_tree_classes(top: Path, classes: Sequence[str]) -> tuple[int, ...]:
    """Places of the classes that have a folder in a tree of class folders."""
    folders = {name for group in find_groups(top, classes) or ("",) for name in list_folders(top / group)}
    if _are_numbers(folders, classes):
        return tuple(range(len(classes)))
    return tuple(k for k, name in enumerate(classes) if name in folders)


def _walk_groups(top: Path, below: str, classes: set[str], levels: int) -> Iterator[str]:
    for name in list_folders(top / below):
        here = f"{below}/{name}" if below else name
        inside = list_folders(top / here)
        if "train" in inside:  # another set's tree
            continue
        if any(inner in classes for inner in inside):
            yield here
        elif levels > 1:
            yield from _walk_groups(top, here, classes, levels - 1)


def _has_classes(top: Path, classes: Sequence[str]) -> bool:
    return any(name in classes or list_loose_images(top / name) for name in list_folders(top))


def list_labelled_images(top: Path, classes: Sequence[str]) -> Listing:
    """The images of the class folders in `top`, an absolute path. classes: of the network, in its order, of which some
    may have no folder; (): the folders, sorted. If all folders are numbers, from 0 to one less than there are classes,
    they are the classes' places. Raises ConfigError for a folder of images of another class."""
    others, found = Counter[str](), dict[str, list[str]]()
    folders = list_folders(top)
    numbered = _are_numbers(folders, classes)
    for name in folders:
        images, rest = list_class_images(top, name)
        if images or name in classes:
            found[classes[int(name)] if numbered else name] = images
            others += rest
    classes = tuple(classes or found)
    if strange := [name for name in found if name not in classes]:
        raise ConfigError(
            f"data.root: {top}: {format_count(len(strange), 'folder')} of no class of the network: "
            f"{format_list(strange)}; it knows {format_list(classes)}{_explain_numbers(strange, len(classes))}"
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


def _are_numbers(folders: Collection[str], classes: Sequence[str]) -> bool:
    return bool(classes) and set(folders) == {str(k) for k in range(len(classes))} and not set(folders) & set(classes)


def _explain_numbers(strange: Sequence[str], count: int) -> str:
    if not all(name.isdecimal() for name in strange):
        return ""
    return f"; folders of numbers are taken as places of classes if they are those from 0 to {count - 1}, all of them"

"""Lists a folder of images: its tree, classes and files, and their order. No torch, no decoding.

A tree has train/ and val/, each with one folder per class, and images in those, up to _MAX_DEPTH folders deep. Names
that begin with a dot are ignored. Order: by class, then by path; an image's position is its index. Tiny ImageNet's
official val/ (images/ and val_annotations.txt) is listed in the order that its files would have in class folders.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count, format_list
from paribus.core.long_step import long_step
from paribus.data.trees.decoding import EXTENSIONS
from paribus.data.trees.manifest import Manifest, load_manifest

SPLITS = ("train", "val")
ANNOTATIONS = "val_annotations.txt"  # Tiny ImageNet's: file name, class id and a box in each line
_IMAGENET_VAL = "ILSVRC2012_val_"
_MAX_DEPTH = 4  # folders below a class; a circular link would never end


@dataclass(frozen=True)
class Listing:
    """The images of a split in order. paths: relative to the tree, with /. targets: indices into `classes`.

    ignored: how many files in class folders have no image's extension, by extension. loose: how many images lie outside
    of class folders. absent: classes without an image.
    """

    tree: Path
    split: str
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    targets: tuple[int, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    loose: int = 0
    absent: tuple[str, ...] = ()


_GIVE = "give the folder that holds it, with data.root=DIR or PARIBUS_DATA"


def find_tree(root: Path, known: Manifest | None) -> Path:
    """A dataset's tree: root / one of its names, else root itself. Raises ConfigError that says what to do."""
    candidates, below = [root], list[str]()
    if known is not None:
        larger = [] if known.within is None else [load_manifest(known.within)]
        below = [name for m in (known, *larger) for name in (m.name, *m.folders)]
        candidates = [*(root / name for name in below), root]
    for candidate in candidates:
        if (candidate / "train").is_dir():
            return candidate
    if known is None and not root.exists():
        raise ConfigError(f"{root}: no tree of images there (no such folder); name the one that holds train/ and val/")
    if known is None:
        raise ConfigError(
            f"{root}: no tree of images there (no train/ in it); name the folder that holds train/ and val/"
        )
    raise ConfigError(
        f"{root}: {known.name} is not there (no train/ in it or in its {', '.join(below)}); "
        f"{_explain_how_to_get(known)}"
    )


def _explain_how_to_get(known: Manifest) -> str:
    command = f"paribus data prepare {known.name} --root DIR"
    if any(a.torchvision for a in known.archives):
        return f"{_GIVE}, or fetch it with: {command} --download"
    if urls := [a.url for a in known.archives if a.url and not a.nested]:
        return f"{_GIVE}, or put {urls[0]} into DIR and unpack it with: {command}"
    return _GIVE


def list_images(tree: Path, split: str, known: Manifest | None, allow_missing: bool = False) -> Listing:
    """The images of a split. Raises ConfigError for missing or empty (unless allowed) and for unknown class folders."""
    top = tree / split
    if not top.is_dir():
        raise ConfigError(f"{top} is not there; a tree of images has train/ and val/ with one folder per class")
    classes = tuple(known.classes) if known else list_folders(tree / "train")
    if not classes:
        raise ConfigError(f"{top} has no class folders")
    if (top / "images").is_dir() and (top / ANNOTATIONS).is_file() and "images" not in classes:
        found, others, loose = _read_annotations(top, classes), dict[str, Counter[str]](), list[str]()
    else:
        _check_unknown_folders(top, classes, known)
        with long_step(f"listing {top}", len(classes), "classes") as advance:
            listed: dict[str, tuple[list[str], Counter[str]]] = {}
            for name in classes:
                listed[name] = list_class_images(top, name)
                advance(1)
        found = {name: images for name, (images, _) in listed.items()}
        others = {name: rest for name, (_, rest) in listed.items()}
        loose = list_loose_images(top)
    absent = tuple(name for name in classes if not found.get(name))
    if loose and len(absent) == len(classes):
        raise ConfigError(_explain_loose_images(top, loose))
    if absent and not allow_missing:
        raise ConfigError(_explain_missing_classes(top, absent, others, known))
    if len(absent) == len(classes):
        raise ConfigError(f"{top} has no images ({', '.join(EXTENSIONS)}) in the folders of its {len(classes)} classes")
    return Listing(
        tree,
        split,
        classes,
        tuple(path for name in classes for path in sorted(found.get(name, ()))),
        tuple(k for k, name in enumerate(classes) for _ in found.get(name, ())),
        sum(others.values(), Counter[str]()),
        len(loose),
        absent,
    )


def explain_unread(part: Listing) -> str:
    """What lies in a split's folder and is not read; "" if nothing does."""
    found, count = list[str](), sum(part.ignored.values())
    if count:
        found.append(f"{format_count(count, 'file')} without an image's extension ({_format_kinds(part.ignored)})")
    if part.loose:
        found.append(f"{format_count(part.loose, 'image')} outside of class folders")
    return f"{part.tree / part.split}: not read: {', and '.join(found)}" if found else ""


def _format_kinds(files: Mapping[str, int]) -> str:
    ranked = sorted(files.items(), key=lambda kind: (-kind[1], kind[0]))
    return format_list(f"{n:,} {extension or 'without any'}" for extension, n in ranked)


def _explain_loose_images(top: Path, loose: Sequence[str]) -> str:
    there = f"{top}: {format_count(len(loose), 'image')} lie{'s' if len(loose) == 1 else ''} loose in {top.name}/"
    if not loose[0].startswith(_IMAGENET_VAL):
        return f"{there}; move each into the folder of its class, {top.name}/CLASS"
    return (
        f"{there}, as ImageNet's archive has them; to sort them into class folders, run valprep.sh there "
        "(github.com/soumith/imagenetloader.torch), or unpack ILSVRC2012_img_val.tar again with "
        "torchvision.datasets.ImageNet(DIR, 'val'), which needs ILSVRC2012_devkit_t12.tar.gz beside it"
    )


def _explain_missing_classes(
    top: Path, absent: Sequence[str], others: Mapping[str, Mapping[str, int]], known: Manifest | None
) -> str:
    if unreadable := [name for name in absent if others.get(name)]:
        name, more = unreadable[0], f", and so {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        kinds = others[name]
        return (
            f"{top}: class folder {name} has {format_count(sum(kinds.values()), 'file')}, none of a kind that is read "
            f"({', '.join(EXTENSIONS)}): {_format_kinds(kinds)}{more}"
        )
    missing = [name for name in absent if not (top / name).is_dir()]
    kind, names = ("missing", missing) if missing else ("empty (no image in it)", list(absent))
    what = "class folder" if len(names) == 1 else "class folders"
    partial = "; prepare --allow-missing packs a partial tree, and data=folder takes any" if known else ""
    return f"{top}: {len(names):,} {what} {kind}: {format_some(names)}{partial}"


def _check_unknown_folders(top: Path, classes: Sequence[str], known: Manifest | None) -> None:
    expected = set(classes)
    if known is not None and known.within is not None:
        expected |= set(load_manifest(known.within).classes)
    if strange := [name for name in list_folders(top) if name not in expected]:
        whose = f"of {known.name}" if known else f"in {top.parent / 'train'}"
        raise ConfigError(
            f"{top}: {format_count(len(strange), 'folder')} of no class {whose}: {format_some(strange)}; move them "
            "elsewhere"
        )


def format_some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def list_folders(top: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted. Raises ConfigError if it cannot be read."""
    try:
        with os.scandir(top) as entries:
            return tuple(sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir()))
    except OSError as error:
        raise ConfigError(f"{top} cannot be read: {error.strerror}") from error


def list_class_images(top: Path, name: str) -> tuple[list[str], Counter[str]]:
    """Paths of a class's images relative to the tree, and the number of other files by extension."""
    found, others = list[str](), Counter[str]()
    for path, is_image in _walk(top / name, f"{top.name}/{name}", _MAX_DEPTH):
        if is_image:
            found.append(path)
        else:
            others[os.path.splitext(path)[1].lower()] += 1
    return found, others


def list_loose_images(top: Path) -> list[str]:
    """Names of the images that lie in a folder itself, sorted."""
    with os.scandir(top) as entries:
        images = [e for e in entries if e.name[0] != "." and e.name.lower().endswith(EXTENSIONS)]
        return sorted(e.name for e in images if e.is_file())


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if depth == 0:
                        raise ConfigError(f"{folder}: folders are nested too deep, or a link is circular")
                    yield from _walk(folder / entry.name, f"{prefix}/{entry.name}", depth - 1)
                else:
                    yield f"{prefix}/{entry.name}", entry.name.lower().endswith(EXTENSIONS)
    except FileNotFoundError:
        return  # the caller reports a missing class folder
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from error


def _read_annotations(top: Path, classes: Sequence[str]) -> dict[str, list[str]]:
    """Tiny ImageNet's official val/: one folder of images, and their classes in a file."""
    there = {
        path.rpartition("/")[2]: path for path, is_image in _walk(top / "images", f"{top.name}/images", 0) if is_image
    }
    found, known = dict[str, list[str]](), set(classes)
    try:
        lines = (top / ANNOTATIONS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{top / ANNOTATIONS} cannot be read: {error}") from error
    for number, line in enumerate(filter(str.strip, lines), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if wnid not in known:
            raise ConfigError(f"{top / ANNOTATIONS}: line {number}: found {wnid!r}, which is no class of the set")
        if (path := there.pop(name, None)) is not None:
            found.setdefault(wnid, []).append(path)
    if there:
        raise ConfigError(f"{top / ANNOTATIONS} does not list {len(there):,} images: {format_some(sorted(there))}")
    return found

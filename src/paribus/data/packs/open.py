"""A dataset packed once at a fixed image size: uint8 pixels in one file per split, memory-mapped without a copy."""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count
from paribus.data.packs.boxes import read_packed_boxes
from paribus.data.packs.facts import read_packed_facts
from paribus.data.packs.format import (
    PackRecord,
    SplitRecord,
    explain_source_change,
    format_prepare_command,
    list_file_sizes,
    read_record,
)
from paribus.data.trees.manifest import FOLDER, load_manifest
from paribus.data.trees.tree import find_tree


@dataclass(frozen=True)
class PackedSplit:
    """images (n, size, size, channels) uint8, memory-mapped read-only: writing to them crashes the process. targets
    (n,) int64 class ids. ids (n,) int64: indices in the source's full listing, skipped images included. skipped: names
    and reasons. boxes (n, 4) float64: of the images' objects in pixels of the pack, NaN for none; None: no image has
    one (packs/boxes.py). facts: (n,) int64 or float32 by name (packs/facts.py)."""

    images: Tensor
    targets: Tensor
    ids: Tensor
    skipped: tuple[str, ...]
    boxes: Tensor | None = None
    facts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Pack:
    """checksum: over everything that training reads. partial: what the source lacked of its manifest. rule: how images
    were chosen and made, in words."""

    folder: Path
    name: str
    size: int
    classes: tuple[str, ...]
    splits: Mapping[str, PackedSplit]
    checksum: str
    partial: tuple[str, ...]
    rule: Mapping[str, str]


def open_pack(folder: Path, name: str, size: int, source_root: Path | None, channels: int = 3) -> Pack:
    """source_root: where the dataset's tree may be, as in `--root`; if it is there, its files are compared with what
    was packed (their names, sizes and times). None, or no tree there: the pack is used as it is.

    Raises ConfigError with the command that makes the pack, if there is none, if it is of another format, name, size,
    number of channels or source, or if its files have the wrong length. Checksums are left to `paribus data check`.
    """

    def rebuild_command(record: PackRecord | None) -> str:
        listed = str(folder / record.names) if record is not None and record.names else "FILE"
        return format_prepare_command(name, size, folder, source_root, record, listed, channels)

    try:
        record = read_record(folder)
    except ConfigError as error:
        raise ConfigError(f"{error}; remove {folder} and run: {rebuild_command(None)}") from error
    if record is None:
        raise ConfigError(
            f"data.pack: no pack of {name} at {size} pixels{_of_channels(channels)} in {folder}; data.form=folder "
            f"needs none and decodes in every step, or make it with: {rebuild_command(None)}"
        )
    if (record.name, record.size) != (name, size):
        raise ConfigError(
            f"data.pack: {folder} is a pack of {record.name} at {record.size} pixels, not of {name} at {size}; choose "
            f"another folder, or remove this one and run: {rebuild_command(None)}"
        )
    if record.channels != channels:
        raise ConfigError(
            f"data.channels: found {channels}; the pack {folder} has {format_count(record.channels, 'channel')}; "
            f"choose another folder, or make it again with: {rebuild_command(record)}"
        )
    for file, length in list_file_sizes(record).items():
        found = (folder / file).stat().st_size if (folder / file).is_file() else -1
        if found != length:
            what = "is not there" if found < 0 else f"has {found:,} bytes, {length:,} expected"
            raise ConfigError(
                f"{folder / file} {what}; the pack is damaged, make it again with: {rebuild_command(record)}"
            )
    if why := explain_source_change(folder, record, source_root):
        raise ConfigError(f"{folder} was packed from other files: {why}; make it again with: {rebuild_command(record)}")
    splits = {split: _map_split(folder, s, size, channels) for split, s in record.splits.items()}
    tree, command = _find_tree(name, source_root), rebuild_command(record)
    for split, found in (read_packed_boxes(folder, record, tree, command) or {}).items():
        splits[split] = replace(splits[split], boxes=torch.from_numpy(found))
    for split, facts in read_packed_facts(folder, record, tree, command).items():
        splits[split] = replace(splits[split], facts={name: torch.from_numpy(v) for name, v in facts.items()})
    return Pack(folder, name, size, record.classes, splits, record.checksum, record.partial, record.rule)


def _find_tree(name: str, root: Path | None) -> Path | None:
    try:
        return None if root is None else find_tree(root, None if name == FOLDER else load_manifest(name))
    except ConfigError:
        return None


def _of_channels(channels: int) -> str:
    return "" if channels == 3 else f" and {format_count(channels, 'channel')}"


def _map_split(folder: Path, s: SplitRecord, size: int, channels: int) -> PackedSplit:
    images = _map_tensor(folder / s.pixels, np.dtype("u1"), (s.images, size, size, channels))
    targets = _map_tensor(folder / s.targets, np.dtype("<i8"), (s.images,))
    ids = _map_tensor(folder / s.ids, np.dtype("<i8"), (s.images,))
    return PackedSplit(images, targets, ids, s.skipped)


def _map_tensor(path: Path, kind: "np.dtype[np.generic]", shape: tuple[int, ...]) -> Tensor:
    """Read-only and shared, unlike torch.from_file: a private mapping counts against memory, and ImageNet at 160 pixels
    (98 GB) would be refused on most machines."""
    if shape[0] == 0:
        return torch.empty(shape, dtype=torch.uint8 if kind.itemsize == 1 else torch.int64)
    try:
        array = np.memmap(path, kind, "r", shape=shape)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be mapped: {error}") from error
    if sys.byteorder == "big" and kind.itemsize > 1:
        return torch.from_numpy(array.astype(np.int64))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable.*", UserWarning)
        return torch.from_numpy(array)

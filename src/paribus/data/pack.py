"""A set of images packed once at a fixed size: uint8 pixels in one file a split, memory-mapped without a copy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class PackedSplit:
    """images (n, size, size, 3) uint8, mapped from the file and not to be written to. targets (n,) int64 class ids. ids
    (n,) int64: places in the source's full listing, in which skipped images count. skipped: their names and reasons."""

    images: Tensor
    targets: Tensor
    ids: Tensor
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Pack:
    """checksum: over everything that training sees. partial: where the tree held less than its manifest says."""

    folder: Path
    name: str
    size: int
    classes: tuple[str, ...]
    splits: Mapping[str, PackedSplit]
    checksum: str
    partial: tuple[str, ...] = ()


def default_folder(root: Path, name: str, size: int) -> Path:
    return root / "packed" / f"{name}-{size}"


def open_pack(folder: Path, name: str, size: int, source_root: Path | None) -> Pack:
    raise NotImplementedError  # follows

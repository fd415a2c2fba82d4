"""The boxes of a pack (trees/boxes.py), in pixels of its squares: a file of its own, as training reads none of it.

boxes.npz: `train` and `val`, float64 (n, 4) in the order of the rows; `source`, sha256 of the tree's boxes.csv; `pack`,
checksum of the pack that the rows are of. Not there where the tree has no boxes.csv. So the checksum of a pack does not
depend on boxes, and `paribus data prepare` adds them to a pack without making it again.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically
from paribus.data.packs.format import PackRecord
from paribus.data.trees.boxes import BOXES_FILE, hash_boxes, match_boxes, place_boxes, read_boxes
from paribus.data.trees.decoding import place_square, read_image_size
from paribus.data.trees.tree import SPLITS, Listing

PACKED_BOXES = "boxes.npz"
Array = np.ndarray[Any, Any]


def write_packed_boxes(
    folder: Path, record: PackRecord, tree: Path, parts: Mapping[str, Listing], log: Callable[[str], None]
) -> None:
    """Bring a pack's boxes up to date with the tree's. parts: what the pack was made from. Raises ConfigError."""
    path, source = folder / PACKED_BOXES, hash_boxes(tree)
    if not source:
        path.unlink(missing_ok=True)
        return
    if (there := _read(path)) is not None and (there["source"], there["pack"]) == (source, record.checksum):
        return
    boxes, made = read_boxes(tree), dict[str, Array]()
    if not boxes:
        path.unlink(missing_ok=True)
        return
    for split in SPLITS:
        ids = np.frombuffer((folder / record.splits[split].ids).read_bytes(), "<i8").tolist()
        made[split] = _place(boxes, tree, [parts[split].paths[i] for i in ids], record.size)
    count = sum(int(np.isfinite(found[:, 0]).sum()) for found in made.values())
    if not count:
        raise ConfigError(f"{tree / BOXES_FILE}: none of its {len(boxes):,} lines is of an image of the tree")
    content = io.BytesIO()
    arrays: dict[str, Any] = {**made, "source": np.array(source), "pack": np.array(record.checksum)}
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())
    log(f"{path}: the boxes of {count:,} images")


def _place(boxes: Mapping[str, tuple[float, ...]], tree: Path, paths: list[str], side: int) -> Array:
    found = match_boxes(boxes, paths)
    with_box = np.isfinite(found[:, 0])
    sizes = [read_image_size(tree / path) for path, has in zip(paths, with_box.tolist(), strict=True) if has]
    found[with_box] = place_boxes(found[with_box], np.array(sizes), [place_square(*s, side) for s in sizes], side)
    return found


def read_packed_boxes(folder: Path, record: PackRecord, tree: Path | None, command: str) -> dict[str, Array] | None:
    """The boxes of each split; None if the pack has none. tree: where the source is, None where that is not known.
    command: makes them again. Raises ConfigError if they are of another pack or other boxes than the tree's."""
    path = folder / PACKED_BOXES
    if not path.exists():
        return None
    found = _read(path)
    again = f"make it again with: {command}"
    if found is None or any(found[split].shape != (record.splits[split].images, 4) for split in SPLITS):
        raise ConfigError(f"{path} is damaged; {again}")
    if found["pack"] != record.checksum:
        raise ConfigError(f"{path} has the boxes of another pack; {again}")
    if tree is not None and hash_boxes(tree) not in ("", found["source"]):
        raise ConfigError(f"{path} was made from another {tree / BOXES_FILE}; {again}")
    return {split: found[split] for split in SPLITS}


def _read(path: Path) -> dict[str, Any] | None:
    """None if the file is not there or is damaged."""
    try:
        with np.load(path) as content:
            parts = {split: content[split] for split in SPLITS}
            texts = {name: str(content[name]) for name in ("source", "pack")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
    return {**parts, **texts}

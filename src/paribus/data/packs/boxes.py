"""The boxes of a pack (trees/boxes.py), in pixels of its squares: a file of its own, as training reads none of it.

boxes.npz: `train` and `val`, float64 (n, 4) in the order of the rows; `source`, sha256 of the tree's boxes.csv; `pack`,
checksum of the pack that the rows are of. Not there where the tree has no boxes.csv. So the checksum of a pack does not
depend on boxes, and `paribus data prepare` adds them to a pack without making it again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from paribus.core.errors import ConfigError
from paribus.data.packs.beside import Array, SideFile, is_current, read_side_file, write_side_file
from paribus.data.packs.format import PackRecord
from paribus.data.trees.boxes import BOXES_FILE, hash_boxes, match_boxes, place_boxes, read_boxes
from paribus.data.trees.decoding import place_square, read_image_size
from paribus.data.trees.tree import SPLITS, Listing

PACKED_BOXES = "boxes.npz"


def write_packed_boxes(
    folder: Path, record: PackRecord, tree: Path, parts: Mapping[str, Listing], log: Callable[[str], None]
) -> None:
    """Bring a pack's boxes up to date with the tree's. parts: what the pack was made from. Raises ConfigError."""
    path, source = folder / PACKED_BOXES, hash_boxes(tree)
    if not source:
        path.unlink(missing_ok=True)
        return
    if is_current(path, source, record):
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
    write_side_file(path, SideFile(made, source, record.checksum))
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
    source, file = ("", None) if tree is None else (hash_boxes(tree), tree / BOXES_FILE)
    side = read_side_file(folder / PACKED_BOXES, record, source, file, command)
    if side is None:
        return None
    if any(side.arrays.get(split, np.empty(0)).shape != (record.splits[split].images, 4) for split in SPLITS):
        raise ConfigError(f"{folder / PACKED_BOXES} is damaged; make it again with: {command}")
    return {split: side.arrays[split] for split in SPLITS}

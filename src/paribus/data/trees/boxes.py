"""Boxes round the object of an image: a tree's `boxes.csv`, and where a box lies once its image is resized and cropped.

    path,x0,y0,x1,y1                              one object an image; images without a line have none
    train/n01641577/n01641577_0.JPEG,0,22,63,60   relative to the tree, with /

x0, y0 and x1, y1 are the first and the last pixel of the box, counted from 0 in the file as it is stored: Tiny
ImageNet's own numbers, of which 0,0,63,63 is all of an image. Everywhere else a box is where its edges are, x1, y1, x2,
y2, which is one more at the right and below, so that its area is (x2 - x1)(y2 - y1). No torch.
"""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paribus.core.errors import ConfigError
from paribus.data.trees.decoding import Placement

BOXES_FILE = "boxes.csv"
_COLUMNS = ("path", "x0", "y0", "x1", "y1")
_WHAT_A_LINE_IS = "a line is path,x0,y0,x1,y1 with the first and the last pixel of the box, both counted from 0"
Array = np.ndarray[Any, Any]


def read_boxes(tree: Path) -> dict[str, tuple[float, ...]]:
    """The edges x1, y1, x2, y2 of each box in pixels of the file, by the image's path; {} if the tree has no boxes.
    Raises ConfigError with the line that is wrong."""
    path, found = tree / BOXES_FILE, dict[str, tuple[float, ...]]()
    if not path.is_file():
        return found
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
                raise ConfigError(f"{path}: its first line has no {', '.join(missing)}; it should be path,x0,y0,x1,y1")
            for row in rows:
                if row["path"] in found:
                    raise ConfigError(f"{path}: line {rows.line_num}: a second box of {row['path']}; one is read")
                found[row["path"]] = _read_edges(row, f"{path}: line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return found


def _read_edges(row: Mapping[str, str | None], where: str) -> tuple[float, ...]:
    given = [row[name] for name in _COLUMNS[1:]]
    try:
        x0, y0, x1, y1 = (float(number or "") for number in given)
    except ValueError:
        x0 = math.nan
        y0 = x1 = y1 = x0
    if not (0 <= x0 <= x1 < math.inf and 0 <= y0 <= y1 < math.inf):
        raise ConfigError(f"{where}: found {','.join(str(number or '') for number in given)}; {_WHAT_A_LINE_IS}")
    return x0, y0, x1 + 1, y1 + 1


def match_boxes(boxes: Mapping[str, tuple[float, ...]], paths: Iterable[str]) -> Array:
    """(n, 4) float64: the box of each image, NaN where it has none."""
    none = (math.nan,) * 4
    return np.array([boxes.get(path, none) for path in paths], np.float64).reshape(-1, 4)


def hash_boxes(tree: Path) -> str:
    """sha256 of the tree's file; "" if it has none."""
    try:
        return hashlib.sha256((tree / BOXES_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""


def place_boxes(boxes: Array, sizes: Array, placements: Sequence[Placement] | Array, side: int) -> Array:
    """Where boxes are in the square crops of their images: (n, 4) float64, cut off at the crop's edges, NaN where
    nothing of the object is left. sizes: (n, 2), width and height of the images. placements: (n, 4), of each. side: of
    the crops."""
    placed = np.asarray(placements, np.float64).reshape(-1, 4)
    scale = placed[:, :2] / np.asarray(sizes, np.float64).reshape(-1, 2)
    moved = boxes * scale[:, [0, 1, 0, 1]] - placed[:, [2, 3, 2, 3]]
    moved = np.clip(moved, 0, side)
    moved[(moved[:, 2] <= moved[:, 0]) | (moved[:, 3] <= moved[:, 1])] = np.nan
    return moved

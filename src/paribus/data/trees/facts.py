"""What is known of single images beside their class: a tree's `facts.csv`, a column for each fact.

    path,group,light              one line an image; images without a line are not annotated
    train/cat/003.jpg,1,0.25      relative to the tree, with /
    train/cat/004.jpg,,0.5        an empty cell is not annotated either

A column of whole numbers from 0 is a group, a bias or another index, int64 with -1 for what is not annotated; a column
with other numbers is a measure, float32 with NaN. No torch.
"""

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paribus.core.errors import ConfigError

FACTS_FILE = "facts.csv"
_PATH, _GROUP = "path", "group"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("box", "crop", "x0", "y0", "x1", "y1")  # a box has a file of its own, boxes.csv; crops are drawn in training
_LARGEST = 2**31
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FactsTable:
    """names: of the columns. is_whole: whether a column is of whole numbers. lines: the values of an image by its path,
    NaN where it is not annotated."""

    names: tuple[str, ...]
    is_whole: tuple[bool, ...]
    lines: Mapping[str, tuple[float, ...]]


def read_facts(tree: Path) -> FactsTable | None:
    """None if the tree has no such file. Raises ConfigError with the line that is wrong."""
    path = tree / FACTS_FILE
    if not path.is_file():
        return None
    lines = dict[str, tuple[float, ...]]()
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet puts a mark before the first name
            rows = csv.reader(file)
            names = _read_names(next(rows, []), path)
            for row in rows:
                where = f"{path}: line {rows.line_num}"
                if not row:
                    continue
                if len(row) != len(names) + 1:
                    raise ConfigError(f"{where}: found {len(row)} cells; the first line has {len(names) + 1}")
                if row[0] in lines:
                    raise ConfigError(f"{where}: a second line of {row[0]}; an image has one, so take one of them out")
                lines[row[0]] = tuple(_read_cell(*cell, where) for cell in zip(row[1:], names, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    columns = zip(*lines.values(), strict=True) if lines else [()] * len(names)
    whole = tuple(all(math.isnan(value) or value.is_integer() for value in column) for column in columns)
    _check_whole(path, names, whole, lines)
    return FactsTable(names, whole, lines)


def _read_names(head: list[str], path: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in head)
    if len(names) < 2 or names[0] != _PATH:
        raise ConfigError(
            f"{path}: found the first line {','.join(head)!r}; it should be path,NAME,..., such as path,group"
        )
    for name in names[1:]:
        if not _NAME.fullmatch(name) or name in _TAKEN or names.count(name) > 1:
            raise ConfigError(
                f"{path}: found the column {name!r}; a name is of small letters, digits and _, there once, and none of "
                f"{', '.join(_TAKEN)} (boxes have a boxes.csv)"
            )
    return names[1:]


def _read_cell(cell: str, name: str, where: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {name}: found {cell!r}; give a number (groups are numbered from 0)")
    return value


def _check_whole(
    path: Path, names: tuple[str, ...], whole: tuple[bool, ...], lines: Mapping[str, tuple[float, ...]]
) -> None:
    for image, values in lines.items():
        for name, is_whole, value in zip(names, whole, values, strict=True):
            if name == _GROUP and not is_whole and not math.isnan(value) and not value.is_integer():
                raise ConfigError(f"{path}: {image}: {name}: found {value:g}; groups are whole numbers from 0")
            if is_whole and (value < 0 or value >= _LARGEST):  # CelebA's -1 means "no", and would pass for "unknown"
                raise ConfigError(
                    f"{path}: {image}: {name}: found {value:.0f}; whole numbers count from 0, and an empty cell is not "
                    "annotated"
                )


def match_facts(table: FactsTable, paths: Iterable[str]) -> dict[str, Array]:
    """(n,) int64 or float32 by name, of those facts that are known of any of the images."""
    nothing = (math.nan,) * len(table.names)
    found = np.array([table.lines.get(path, nothing) for path in paths], np.float64).reshape(-1, len(table.names))
    made = dict[str, Array]()
    for name, is_whole, column in zip(table.names, table.is_whole, found.T, strict=True):
        if np.isnan(column).all():
            continue
        made[name] = np.where(np.isnan(column), -1, column).astype(np.int64) if is_whole else column.astype(np.float32)
    return made


def check_matched(tree: Path, table: FactsTable, paths: Iterable[str]) -> str:
    """A warning of lines that are of no image of the tree, as after a slip in a path; "" if there are none. paths: of
    all images of all splits. Raises ConfigError if no line is of an image, as when paths are relative to elsewhere."""
    lost = dict.fromkeys(table.lines)
    for path in paths:
        lost.pop(path, None)
    if not lost:
        return ""
    file, first = tree / FACTS_FILE, next(iter(lost))
    if len(lost) == len(table.lines):
        raise ConfigError(
            f"{file}: none of its {len(lost):,} lines, of which {first!r} is the first, is of an image of the tree; "
            "paths are relative to it, such as train/CLASS/FILE"
        )
    return f"{file}: {len(lost):,} of its {len(table.lines):,} lines, of which {first!r} is the first, is of no image"


def hash_facts(tree: Path) -> str:
    """sha256 of the tree's file; "" if it has none."""
    try:
        return hashlib.sha256((tree / FACTS_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""

"""Rows of a table as images of one pixel, so that they travel like any other sample: a column, or a value of one, is a
channel.

Pixels are whole numbers from 0 to 255. A number below 256 is stored as it is, a larger one on a logarithmic scale; a
category has a channel for each value, 0 or 255. Numbers are normalised by their mean and standard deviation over the
training file, categories are 0 or 1. Nothing is cropped, flipped or augmented.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.subset import combine_strata, hide_groups
from paribus.data.ops.input_spec import InputSpec, PadCrop

Rows = Sequence[Mapping[str, str]]  # column -> text


@dataclass(frozen=True)
class Columns:
    """Which columns are inputs. numbers: name -> None for one that is below 256, else its largest value, on a
    logarithmic scale. categories: their names; values that only the test rows have are none."""

    numbers: Mapping[str, int | None]
    categories: tuple[str, ...]


def find_root(root: str | None, folder: str) -> Path:
    return Path(root or os.environ.get("PARIBUS_DATA") or "data").expanduser() / folder


def read_checked_text(path: Path, sha256: str, what: str) -> str:
    """The text of a file. what: the data set's name and where its files come from, for the message. Raises ConfigError
    unless it is the file of this checksum."""
    if not path.is_file():
        raise ConfigError(
            f"data.root: {what} (no {path}); put the file there, or point data.root or PARIBUS_DATA to the folder that "
            f"holds {path.parent.name}/"
        )
    raw = path.read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != sha256:
        raise ConfigError(
            f"data.root: {path} is another file (sha256 {found[:12]}…, expected {sha256[:12]}…): {what}; copies that "
            "others have edited give other results"
        )
    return raw.decode()


def to_pixels(rows: Rows, columns: Columns, values: Mapping[str, Sequence[str]]) -> Tensor:
    """(n, 1, 1, c) uint8. values: of each category, in the order of its channels."""
    channels: list[Tensor] = []
    for name, largest in columns.numbers.items():
        numbers = torch.tensor([float(row[name]) for row in rows], dtype=torch.float64)
        if largest is not None:
            numbers = 255 * numbers.clamp(max=largest).log1p() / math.log1p(largest)
        channels.append(numbers.round()[:, None])
    for name in columns.categories:
        place = {value: k for k, value in enumerate(values[name])}
        codes = torch.tensor([place.get(row[name], -1) for row in rows])
        channels.append(255.0 * (codes[:, None] == torch.arange(len(place))))
    return torch.cat([c.double() for c in channels], 1).to(torch.uint8)[:, None, None]


def list_values(rows: Rows, columns: Columns) -> dict[str, list[str]]:
    """The values of each category, in alphabetical order."""
    return {name: sorted({row[name] for row in rows}) for name in columns.categories}


def moments(pixels: Tensor, columns: Columns) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of the 0–1 range: of numbers those over these pixels, of
    categories 0 and 1."""
    count = len(columns.numbers)
    numbers = pixels[:, 0, 0, :count].double() / 255
    rest = pixels.shape[3] - count
    mean, std = numbers.mean(0).tolist(), numbers.std(0, correction=0).clamp(min=1 / 255).tolist()
    return (*mean, *[0.0] * rest), (*std, *[1.0] * rest)


@dataclass(frozen=True)
class LabelledRows:
    """Rows with labels and groups, each (n,) int64."""

    rows: Rows
    targets: Tensor
    groups: Tensor

    def select(self, index: Tensor) -> "LabelledRows":
        return LabelledRows([self.rows[i] for i in index.tolist()], self.targets[index], self.groups[index])


def build_tabular_sets(
    name: str,
    train: LabelledRows,
    val: LabelledRows,
    columns: Columns,
    place: DeviceContext,
    annotated: float,
    train_size: int | None,
    minival: int,
    balanced: bool,
    names: tuple[str, ...],
) -> DataSets:
    """`Batch.also` has "group"; of training samples it is known of the share `annotated` of each class and group, and
    -1 of the rest. name: of what is drawn, which is another for another draw."""
    values = list_values(train.rows, columns)
    images, tested = (
        Images(
            to_pixels(table.rows, columns, values),
            table.targets,
            torch.arange(len(table.targets)),
            also={"group": table.groups},
        )
        for table in (train, val)
    )
    mean, std = moments(images.images, columns)
    strata = combine_strata(train.targets, train.groups)
    images = replace(images, also={"group": hide_groups(train.groups, train.targets, annotated, name)})
    spec = InputSpec(mean, std, PadCrop(pad=0), False, {}, 1, balanced)
    limits = (train_size, minival)
    return build_in_memory_sets(name, images, tested, len(names), spec, place, *limits, names, strata=strata)

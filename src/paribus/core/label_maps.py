"""Label maps: what a teacher's classifier says at each place of each training image, in one .safetensors file.

`paribus data label-map` writes them (runs/label_map.py), `technique=relabel` reads them. Tensors of the file, for n
images, k stored classes and a grid of h×w cells that covers the whole stored image:

    ids      (n,) int64, increasing: indices of the samples in the full set of their source
    values   (n, k, h, w) float32: the k greatest logits of a cell, the greatest first
    indices  (n, k, h, w) int16, or int32 from 32,768 classes on: their classes
    rest     (n, h, w) float32: log of the mean of exp over the other logits; not there where k is all classes

Its metadata has, as JSON under `paribus`, the fields of `AboutMaps`. A file is known by `hash_maps`: of the tensors and
of what they were made of, without clocks, so that the same maps made again are the same file for a run's id.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.errors import ConfigError, explain_exception

FORMAT = 1
_KEY = "paribus"  # of the file's metadata


@dataclass(frozen=True)
class AboutMaps:
    """data: checksum of the training samples (DataSets.checksum). classes: how many the data has. class_ids: by which
    they are matched, () unknown. teacher: id of the run, or the export's file name. weights: sha256 of the teacher's
    tensors. size: pixels a side of what the teacher saw, the whole image. cost: seconds and devices, of the maps and,
    where it is on record, of the teacher's training; no part of the checksum."""

    data: str
    classes: int
    class_ids: tuple[str, ...]
    teacher: str
    weights: str
    size: tuple[int, int]
    cost: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class LabelMaps:
    """The tensors as at the top of this file; rest: None where all classes are stored."""

    ids: Tensor
    values: Tensor
    indices: Tensor
    rest: Tensor | None
    about: AboutMaps

    @property
    def grid(self) -> tuple[int, int]:
        return self.values.shape[2], self.values.shape[3]

    @property
    def top(self) -> int:
        return self.values.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        named = {"ids": self.ids, "values": self.values, "indices": self.indices}
        return named if self.rest is None else {**named, "rest": self.rest}


def keep_top(dense: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """(n, classes, h, w) logits to values, indices and rest, in float32. 1 ≤ top ≤ classes; of equal logits the lower
    class comes first."""
    classes = dense.shape[1]
    ranked, order = dense.double().sort(dim=1, descending=True, stable=True)
    indices = order[:, :top].to(torch.int16 if classes <= 2**15 else torch.int32)
    rest = ranked[:, top:].logsumexp(1) - math.log(classes - top) if top < classes else None
    return ranked[:, :top].float().contiguous(), indices.contiguous(), None if rest is None else rest.float()


def densify(values: Tensor, indices: Tensor, fill: Tensor | float, classes: int) -> Tensor:
    """(n, k, h, w) values of classes `indices` to (n, classes, h, w); the other classes have `fill`, (n, h, w) or a
    number. No two values meet in one place, so a GPU gives the same bits every time."""
    n, _, h, w = values.shape
    dense = values.new_empty(n, classes, h, w)
    dense.copy_(fill[:, None].expand_as(dense)) if isinstance(fill, Tensor) else dense.fill_(fill)
    return dense.scatter_(1, indices.long(), values)


def write_maps(path: Path, maps: LabelMaps) -> None:
    """The file appears once it is complete. Raises ConfigError where it cannot be written."""
    from paribus.core.runfolder import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_bytes(maps))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def to_bytes(maps: LabelMaps) -> bytes:
    from safetensors.torch import save

    return save(maps.tensors(), {_KEY: json.dumps(asdict(maps.about), sort_keys=True)})


def read_maps(path: Path) -> LabelMaps:
    """Raises ConfigError for a file that is not there, is damaged, or is no label map of this format."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; paribus data label-map RUN --out FILE makes one") from error
    try:
        tensors, about = load(raw), _read_about(raw)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no label map of paribus: {explain_exception(error)}") from error
    maps = LabelMaps(tensors["ids"], tensors["values"], tensors["indices"], tensors.get("rest"), about)
    return maps


def _read_about(raw: bytes) -> AboutMaps:
    """From the header: 8 bytes with its length, then JSON."""
    length = int.from_bytes(raw[:8], "little")
    written = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][_KEY])
    if written["format"] != FORMAT:
        raise ValueError(f"its format is {written['format']}, this version reads {FORMAT}")
    known = {key: written[key] for key in (f.name for f in fields(AboutMaps))}
    lists = {key: tuple(known[key]) for key in ("class_ids", "size")}
    return AboutMaps(**{**known, **lists})


def hash_maps(maps: LabelMaps) -> str:
    """sha256 of the tensors (names, types, shapes, values) and of `about` without its cost."""
    about = {key: value for key, value in asdict(maps.about).items() if key != "cost"}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(maps.tensors().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()

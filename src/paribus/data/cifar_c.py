"""CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019, arXiv 1903.12261): corrupted test images, for evaluation.

The archives (zenodo.org, records 2535967 and 3555552) hold KIND.npy, (50,000, 32, 32, 3) uint8, for each kind of
corruption: the 10,000 test images at severity 1, then at 2, and so on; and labels.npy, the 50,000 labels.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from paribus.core.batch import Batch
from paribus.core.build import did_you_mean, schema
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets, DeviceContext, Loader, Spec
from paribus.data.cifar import CLASSES, MEAN_STD
from paribus.data.loaders.in_memory import Images, build_evaluation
from paribus.data.ops.crop_flip import downsample
from paribus.data.ops.input_spec import InputSpec, PadCrop

# the paper's fifteen, of which kind=null takes the mean; the archives have four more
KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
_SEVERITIES = 5
_LABELS = "labels"


@schema
class CorruptedCifar:
    """The split `val` of corrupted test images; there are none to train on.

    name: which of the two. root: the folder of the .npy files, or the one that holds CIFAR-10-C or CIFAR-100-C; else
    PARIBUS_DATA, else ./data. kind: of corruption, such as fog; null: the paper's fifteen, together as `val` and each
    as a split of its name. severity: 1 to 5; null: all five. size: average down to this many pixels a side. mean, std:
    of a channel in units of the 0–1 range; null: of the clean training set.
    """

    name: Literal["cifar10_c", "cifar100_c"]
    root: str | None = None
    kind: str | None = None
    severity: Annotated[int, Field(ge=1, le=_SEVERITIES)] | None = None
    size: Annotated[int, Field(ge=4, le=32)] = 32
    mean: tuple[float, float, float] | None = None
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = (
        None
    )

    @property
    def evaluation_only(self) -> bool:
        """There are no training images, and evaluators measure `val` unless told otherwise (runs/evaluation.py)."""
        return True

    def __call__(self, place: DeviceContext) -> DataSets:
        clean = self.name.removesuffix("_c")
        names, (mean, std) = tuple(CLASSES[clean].split()), MEAN_STD[clean]
        folder = self._find_folder()
        labels = _read_labels(folder, len(names))
        kinds = KINDS if self.kind is None else (self.kind,)
        parts = {kind: _read_kind(folder, kind, labels, self.severity, k) for k, kind in enumerate(kinds)}
        chosen = {"val": list(parts.values())}
        if self.kind is None:
            chosen |= {kind: [part] for kind, part in parts.items()}
        input_spec = InputSpec(self.mean or mean, self.std or std, PadCrop(pad=0), False, {}, 1, False)

        def loader(batch_size: int, seed: int) -> Loader:
            raise ConfigError(f"data: {self.name} has no training images; it is for paribus eval RUN data={self.name}")

        return DataSets(
            spec=Spec(len(names), 3, self.size, self.size),
            loader=loader,
            splits={key: self._chain(split, input_spec, len(names), place) for key, split in chosen.items()},
            sizes={key: sum(len(part.ids) for part in split) for key, split in chosen.items()},
            checksum="",
            mean=input_spec.mean,
            std=input_spec.std,
            names=names,
        )

    def _find_folder(self) -> Path:
        root = Path(self.root or os.environ.get("PARIBUS_DATA") or "data").expanduser()
        folder = {"cifar10_c": "CIFAR-10-C", "cifar100_c": "CIFAR-100-C"}[self.name]
        for found in (root / folder, root):
            if (found / f"{_LABELS}.npy").is_file():
                return found
        raise ConfigError(
            f"data.root: {self.name} is not there (no {root / folder / _LABELS}.npy, no {root / _LABELS}.npy); point "
            f"data.root or PARIBUS_DATA to the folder that holds {folder}"
        )

    def _chain(
        self, parts: list[Images], input_spec: InputSpec, classes: int, place: DeviceContext
    ) -> Callable[[int], Iterator[Batch]]:
        """This rank's share of the parts in order, as build_evaluation shares a single one."""
        n = sum(len(part.ids) for part in parts)
        first, last = (n * rank // place.world for rank in (place.rank, place.rank + 1))
        shrink = None if self.size == 32 else partial(downsample, size=self.size)
        alone, shares, start = replace(place, rank=0, world=1), list[Callable[[int], Iterator[Batch]]](), 0
        for part in parts:
            here = torch.arange(max(first - start, 0), max(min(last - start, len(part.ids)), max(first - start, 0)))
            if len(here) or (first == last and not shares):
                shares.append(build_evaluation(part.select(here), input_spec, classes, alone, "mapped", shrink))
            start += len(part.ids)

        def batches(batch_size: int) -> Iterator[Batch]:
            for share in shares:
                yield from share(batch_size)

        return batches


def _read_kind(folder: Path, kind: str, labels: torch.Tensor, severity: int | None, number: int) -> Images:
    """The images of a kind, in a mapped file. number: of the kind, for ids that no two kinds share."""
    path = folder / f"{kind}.npy"
    if not path.is_file():
        there = sorted(p.stem for p in folder.glob("*.npy") if p.stem != _LABELS)
        raise ConfigError(
            f"data.kind: {kind} is not there (no {path}){did_you_mean(kind, there)}; there are "
            f"{format_list(there) or 'none'}"
        )
    pixels = _read_array(path)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 32, 32, 3):
        raise ConfigError(
            f"data.kind: {path}: found {_describe_array(pixels)}; should be uint8 of shape ({len(labels)}, 32, 32, 3)"
        )
    n = len(labels) // _SEVERITIES
    rows = torch.arange(len(labels)) if severity is None else torch.arange((severity - 1) * n, severity * n)
    return Images(torch.from_numpy(pixels), labels[rows], rows + number * len(labels), rows)


def _read_labels(folder: Path, classes: int) -> torch.Tensor:
    path = folder / f"{_LABELS}.npy"
    labels = _read_array(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels) or len(labels) % _SEVERITIES:
        raise ConfigError(
            f"data.root: {path}: found {_describe_array(labels)}; should be whole numbers, as many for each of "
            f"{_SEVERITIES} severities"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ConfigError(
            f"data.root: {path}: found labels from {labels.min()} to {labels.max()}; should be 0 to {classes - 1}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _read_array(path: Path) -> "np.ndarray[Any, Any]":
    try:
        return np.load(path, mmap_mode="c")  # copied where written to, which torch asks for and nobody does
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"data.root: {path} is damaged or no array: {error}") from error


def _describe_array(array: "np.ndarray[Any, Any]") -> str:
    return f"{array.dtype} of shape {array.shape}"

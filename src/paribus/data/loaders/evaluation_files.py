"""Splits for evaluation from a tree that has no training images, prepared as the evaluation of another data set is."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext, Loader, Spec
from paribus.data.loaders.preprocessing import FilePreprocessing
from paribus.data.loaders.subset import report_empty_classes
from paribus.data.loaders.unlabelled import unlabelled_batches
from paribus.data.ops.transfer import to_device
from paribus.data.trees.evaluation_tree import find_groups, list_labelled_images
from paribus.data.trees.tree import Listing, explain_unread


def build_evaluation_of_files(
    top: Path, classes: Sequence[str], preprocessing: FilePreprocessing, place: DeviceContext, skip: bool = False
) -> DataSets:
    """The split `val` of the class folders in `top` (trees/evaluation_tree.py). If they lie in further folders, these
    are together `val`, and each of the first of them is a split of its name.

    classes: of the network, () unknown. skip: leave out an image that does not decode, with a warning, else raise
    ConfigError.
    """
    parts = {group: list_labelled_images(top / group, classes) for group in find_groups(top, classes) or ("",)}
    for part in parts.values() if place.rank == 0 else ():
        if unread := explain_unread(part):
            print(f"warning: {unread}", file=sys.stderr)
    known = next(iter(parts.values())).classes
    chosen = {"val": tuple(parts.values())}
    for group, part in parts.items() if len(parts) > 1 else ():
        name = group.partition("/")[0]
        chosen[name] = (*chosen.get(name, ()), part)
    splits = {name: _Files.of(listings) for name, listings in chosen.items()}
    report_empty_classes({"val": splits["val"].targets}, len(known), known, place)

    def loader(batch_size: int, seed: int) -> Loader:
        raise ConfigError(f"{top} has no training images")

    return DataSets(
        spec=Spec(len(known), preprocessing.channels, preprocessing.size, preprocessing.size),
        loader=loader,
        splits={name: _label(files, len(known), preprocessing, place, skip) for name, files in splits.items()},
        sizes={name: len(files.paths) for name, files in splits.items()},
        checksum="",
        mean=preprocessing.input_spec.mean,
        std=preprocessing.input_spec.std,
        names=known,
    )


@dataclass(frozen=True)
class _Files:
    """paths of n images, and their labels, (n,) int64."""

    paths: Sequence[Path]
    targets: Tensor

    @staticmethod
    def of(listings: Sequence[Listing]) -> "_Files":
        paths = [part.tree / path for part in listings for path in part.paths]
        return _Files(paths, torch.tensor([label for part in listings for label in part.targets]))


def _label(
    files: _Files, classes: int, preprocessing: FilePreprocessing, place: DeviceContext, skip: bool
) -> Callable[[int], Iterator[Batch]]:
    """This rank's share; an image's id is its place in the split."""
    told = set[str]()
    n = len(files.paths)
    first, last = (n * rank // place.world for rank in (place.rank, place.rank + 1))

    def batches(batch_size: int) -> Iterator[Batch]:
        if first == last:  # an empty batch: ranks sum the same keys
            shape = (0, preprocessing.channels, preprocessing.size, preprocessing.size)
            none = torch.zeros(0, dtype=torch.int64, device=place.device)
            yield Batch(torch.zeros(shape, dtype=place.dtype, device=place.device), none, none, none, 0, classes)
        for part in unlabelled_batches(files.paths[first:last], preprocessing, place, batch_size):
            for _, reason in part.errors:
                if not skip:
                    raise ConfigError(f"{reason}; data.on_error=skip evaluates without such images")
                if reason not in told:
                    told.add(reason)
                    print(f"warning: {reason}; it is left out", file=sys.stderr)
            rows = part.rows + first
            labels, ids, places = to_device(place.device, files.targets[rows], rows, part.rows)
            yield Batch(part.inputs, labels, ids, places, len(ids), classes, known=(places, part.rows))

    return batches

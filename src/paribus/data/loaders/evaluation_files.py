"""A split for evaluation from a tree that has no training images, prepared as the evaluation of another data set is."""

import sys
from collections.abc import Callable, Iterator, Sequence
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
from paribus.data.trees.evaluation_tree import list_labelled_images
from paribus.data.trees.tree import explain_unread


def build_evaluation_of_files(
    top: Path, classes: Sequence[str], preprocessing: FilePreprocessing, place: DeviceContext, skip: bool = False
) -> DataSets:
    """The split `val` of the class folders in `top` (trees/evaluation_tree.py), on one process. classes: of the
    network, () unknown. skip: leave out an image that does not decode, with a warning, else raise ConfigError."""
    part = list_labelled_images(top, classes)
    if unread := explain_unread(part):
        print(f"warning: {unread}", file=sys.stderr)
    targets = torch.tensor(part.targets)
    report_empty_classes({"val": targets}, len(part.classes), part.classes, place)
    files = [part.tree / path for path in part.paths]

    def loader(batch_size: int, seed: int) -> Loader:
        raise ConfigError(f"{top} has no training images")

    return DataSets(
        spec=Spec(len(part.classes), preprocessing.channels, preprocessing.size, preprocessing.size),
        loader=loader,
        splits={"val": _label(files, targets, len(part.classes), preprocessing, place, skip)},
        sizes={"val": len(files)},
        checksum="",
        mean=preprocessing.input_spec.mean,
        std=preprocessing.input_spec.std,
        names=part.classes,
    )


def _label(
    files: Sequence[Path],
    targets: Tensor,
    classes: int,
    preprocessing: FilePreprocessing,
    place: DeviceContext,
    skip: bool,
) -> Callable[[int], Iterator[Batch]]:
    told = set[str]()

    def batches(batch_size: int) -> Iterator[Batch]:
        for part in unlabelled_batches(files, preprocessing, place, batch_size):
            for _, reason in part.errors:
                if not skip:
                    raise ConfigError(f"{reason}; data.on_error=skip evaluates without such images")
                if reason not in told:
                    told.add(reason)
                    print(f"warning: {reason}; it is left out", file=sys.stderr)
            labels, ids = to_device(place.device, targets[part.rows], part.rows)
            yield Batch(part.inputs, labels, ids, torch.arange(len(ids), device=place.device), len(ids), classes)

    return batches

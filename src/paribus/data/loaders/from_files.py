"""Sets whose images are decoded again in every step: an ImageFolder tree, or a dataset class of the user's.

The same contract as resident.py: a batch is a pure function of (data, seed, step), whatever the number of workers. They
decode, crop and mirror (cropping.py); augmentation and normalisation happen here, for the whole batch on the device.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from paribus.core.batch import Batch, named
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DataSets, Loader, Place, Spec
from paribus.data.loaders.decode_batch import Decoded, EvaluationPixels, Places, Samples, TrainingPixels
from paribus.data.loaders.settings import Crops, look_of
from paribus.data.loaders.subset import carved, checksum
from paribus.data.loaders.worker_pool import Ahead
from paribus.data.ops import native
from paribus.data.ops.draws import Draws
from paribus.data.ops.input_spec import Look
from paribus.data.ops.inputs import Inputs
from paribus.data.trees.source import FolderSource, Source

_TOLD = 20  # lines about images that do not decode; those after are counted


class Complaints:
    """Tells of each image that does not decode once, on standard error. One for all loaders of a set."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def __len__(self) -> int:
        return len(self._lines)

    def hear(self, decoded: Decoded) -> Decoded:
        """The decoded images again, if they are to be used. Raises ConfigError for those that must not be missing."""
        if decoded.failed is not None:
            told = f"{decoded.failed}; data.on_error=skip trains and evaluates without such images"
            raise ConfigError(" ".join(told.split())) from Exception(decoded.trace)
        for line in decoded.bad:
            if line in self._lines:
                continue
            self._lines.add(line)
            if len(self) <= _TOLD:
                print(f"warning: {line}", file=sys.stderr)
            if len(self) == _TOLD:
                print(f"warning: that is {_TOLD} images that do not decode; no more of them is told", file=sys.stderr)
        return decoded


class FolderLoader:
    """Training batches, decoded by `workers` processes ahead of the step, or in this one (0).

    Another rank's samples that a transform asks for (Batch.fetch) are decoded here, in threads, while the step waits;
    those of this rank's own share are not decoded again.
    """

    def __init__(
        self,
        samples: Samples,
        look: Look,
        classes: int,
        place: Place,
        batch_size: int,
        seed: int,
        workers: int,
        stand_in: bool = False,
        complaints: Complaints | None = None,
    ) -> None:
        n = len(samples)
        if batch_size > n:
            raise ConfigError(f"batch_size: found {batch_size}; there are only {n} training images")
        if batch_size % place.world:
            raise ConfigError(f"batch_size: found {batch_size}; it must be a multiple of the {place.world} processes")
        share = batch_size // place.world
        first = place.rank * share
        self._samples, self._classes, self._place, self._batch_size = samples, classes, place, batch_size
        self._places = Places(n, seed, look.repeats, batch_size)
        self._pixels = TrainingPixels(samples, look, self._places, first, first + share, stand_in)
        self._inputs = Inputs(replace(look, flip=False), place)  # workers mirror
        native.kernels()  # compiled, or told to be missing, once and not by every worker
        self._ahead = Ahead(self._pixels, workers, pinned=place.device.type == "cuda")
        self._threads = max(1, workers)
        self._positions = torch.arange(first, first + share)
        self._positions_there = self._positions.to(place.device)
        self._complaints = complaints or Complaints()

    @property
    def steps_per_epoch(self) -> int:
        return self._places.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """This rank's part of the global batch of step `step`. Raises ConfigError for an image that does not
        decode, RunFailed for a worker that died."""
        try:
            pixels = self._complaints.hear(self._ahead.take(step)).pixels
        except (ConfigError, RunFailed):
            self.close()
            raise
        return self._made(step, self._positions, self._positions_there, pixels, pixels)

    def close(self) -> None:
        """End the workers; they also end with the loader and with the process."""
        self._ahead.close()

    def _made(self, step: int, positions: Tensor, there: Tensor, pixels: Tensor, share: Tensor) -> Batch:
        """positions: on the CPU, there: on the device. share: this rank's own pixels, for whoever asks for more."""
        device = self._place.device
        epoch, rows, copies = self._places.at(step, positions)
        ids, targets = (v[rows].to(device, non_blocking=True) for v in (self._samples.ids, self._samples.targets))
        copies = None if copies is None else copies.to(device, non_blocking=True)
        draws = Draws(self._places.seed, epoch, ids, copies)
        return Batch(
            inputs=self._inputs.cropped(pixels.to(device, non_blocking=True), draws),
            targets=targets,
            ids=named(ids, copies),
            positions=there,
            size=self._batch_size,
            classes=self._classes,
            fetch=(lambda where: self._fetched(step, where, share)) if self._place.world > 1 else None,
        )

    def _fetched(self, step: int, positions: Tensor, share: Tensor) -> Batch:
        """Any places of a step's global batch. Waits for the device, since who is asked for has to be known here."""
        here = positions.cpu()
        first, last = self._pixels.first, self._pixels.last
        mine = (here >= first) & (here < last)
        pixels = share.new_empty(len(here), *share.shape[1:])
        pixels[mine] = share[here[mine] - first]
        others = torch.nonzero(~mine).flatten()

        def decode(part: Tensor) -> None:
            decoded = self._pixels.at(step, here[part], lambda: True)
            pixels[part] = self._complaints.hear(decoded).pixels

        if len(others):
            with ThreadPoolExecutor(self._threads) as pool:  # Pillow decodes without holding Python's lock
                list(pool.map(decode, others.chunk(self._threads)))
        return self._made(step, here, positions, pixels, share)


def folder_evaluation(
    samples: Samples, crops: Crops, classes: int, place: Place, heard: Complaints
) -> Callable[[int], Iterator[Batch]]:
    """Every sample of this rank's share once, in order, the last batch as long as it comes. Ranks share no sample.

    Decoded again in each evaluation, by workers that live as long as it: so memory stays small for a set of any size,
    at the price of what the decoding of as many training images costs.
    """
    n = len(samples)
    mine = samples.chosen(torch.arange(n * place.rank // place.world, n * (place.rank + 1) // place.world))
    inputs, cuda = Inputs(look_of(crops), place), place.device.type == "cuda"

    def batches(batch_size: int) -> Iterator[Batch]:
        workers = min(crops.workers, batch_size, len(mine))
        pieces = max(1, workers)
        made = EvaluationPixels(
            mine, crops.size, crops.eval_ratio, crops.interpolation, batch_size, pieces, crops.on_error == "skip"
        )
        ahead = Ahead(made, workers, pinned=cuda)
        try:
            # an empty share gives an empty batch: ranks sum the same keys
            for k in range(max(1, -(-len(mine) // batch_size))):
                parts = [heard.hear(ahead.take(index)) for index in range(k * pieces, (k + 1) * pieces)]
                rows = torch.cat([part.rows for part in parts])
                # copied to the device by pieces, whose memory is page-locked, and joined there
                pixels = torch.cat([part.pixels.to(place.device, non_blocking=True) for part in parts])
                yield Batch(
                    inputs=inputs.plain(pixels),
                    targets=mine.targets[rows].to(place.device),
                    ids=mine.ids[rows].to(place.device),
                    positions=torch.arange(len(rows), device=place.device),
                    size=len(rows),
                    classes=classes,
                )
        finally:
            ahead.close()

    return batches


def folder_sets(name: str, train: Source, val: Source, crops: Crops, place: Place, names: tuple[str, ...]) -> DataSets:
    """Two sources of images, decoded in every step. The checksum is of the chosen training samples' names, labels and,
    where they are files, sizes: reading a large set at each start to name it is out of the question."""
    chosen, held_out = carved(train.targets, name, crops.train_size, crops.minival)
    heard, look = Complaints(), look_of(crops)
    skip, classes = crops.on_error == "skip", len(train.classes)
    samples = Samples(train, chosen)
    parts = {"val": Samples(val, torch.arange(len(val.targets)))}
    if held_out is not None:
        parts["minival"] = Samples(train, held_out)

    def loader(batch_size: int, seed: int) -> Loader:
        return FolderLoader(samples, look, classes, place, batch_size, seed, crops.workers, skip, heard)

    return DataSets(
        spec=Spec(classes=classes, channels=3, height=crops.size, width=crops.size),
        loader=loader,
        splits={key: folder_evaluation(part, crops, classes, place, heard) for key, part in parts.items()},
        sizes={"train": len(samples), **{key: len(part) for key, part in parts.items()}},
        checksum=checksum(_listed(samples), samples.targets, samples.ids),
        mean=look.mean,
        std=look.std,
        names=names,
    )


def _listed(samples: Samples) -> str:
    """sha256 over name and size of each sample. A file that is not there has the size -1."""
    digest, source = hashlib.sha256(), samples.source
    for index in samples.ids.tolist():
        size = 0
        if isinstance(source, FolderSource):
            try:
                size = source.path(index).stat().st_size
            except OSError:
                size = -1
        digest.update(os.fsencode(f"{source.called(index)}\0{size}\n"))
    return digest.hexdigest()

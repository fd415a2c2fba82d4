"""Data sets that live on the device as uint8. A batch is a pure function of (data, seed, step): no workers, no
state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, Loader, Place, Spec
from paribus.core.streams import stream
from paribus.data.augment import crop_and_flip, normalised, padded
from paribus.data.subset import checksum, stratified


@dataclass(frozen=True)
class Images:
    """images (n, h, w, c) uint8; targets (n,) int64 class ids; ids (n,) their indices in the full set."""

    images: Tensor
    targets: Tensor
    ids: Tensor

    def chosen(self, index: Tensor) -> "Images":
        return Images(self.images[index], self.targets[index], self.ids[index])


@dataclass(frozen=True)
class Look:
    """How pixels become inputs: normalisation (in units of the 0–1 range) and training augmentation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool


class ResidentLoader:
    """Batches from a resident set. An epoch is a fresh permutation; what does not fill a batch waits for the next
    one."""

    def __init__(self, data: Images, look: Look, classes: int, place: Place, batch_size: int, seed: int) -> None:
        n, height, width, _ = data.images.shape
        if batch_size > n:
            raise ConfigError(f"batch_size: found {batch_size}; there are only {n} training images")
        if batch_size % place.world:
            raise ConfigError(f"batch_size: found {batch_size}; it must be a multiple of the {place.world} processes")
        self.steps_per_epoch = n // batch_size
        self._size, self._look, self._classes, self._place, self._batch_size = (
            (height, width),
            look,
            classes,
            place,
            batch_size,
        )
        self._seed = seed
        self._images = padded(data.images, look.pad).to(place.device)
        self._targets, self._ids = data.targets.to(place.device), data.ids.to(place.device)
        self._mean, self._std = _moments(look, place)
        share = batch_size // place.world
        self._positions = torch.arange(place.rank * share, (place.rank + 1) * share, device=place.device)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def batch(self, step: int) -> Batch:
        """This rank's part of the global batch of step `step`, augmented and normalised."""
        return self._make(step, self._positions)

    def _make(self, step: int, positions: Tensor) -> Batch:
        epoch, k = divmod(step, self.steps_per_epoch)
        rows = self._order_of(epoch)[positions + k * self._batch_size]
        ids = self._ids[rows]
        pixels = crop_and_flip(self._images, rows, ids, self._seed, epoch, self._look.pad, self._look.flip, self._size)
        return Batch(
            inputs=normalised(pixels, self._mean, self._std, self._place.memory_format),
            targets=self._targets[rows],
            ids=ids,
            positions=positions,
            size=self._batch_size,
            classes=self._classes,
            fetch=(lambda where: self._make(step, where)) if self._place.world > 1 else None,
        )

    def _order_of(self, epoch: int) -> Tensor:
        # remembered for speed only: it can be made again from the epoch
        if self._order[0] != epoch:
            order = torch.randperm(len(self._ids), generator=stream(self._seed, "order", epoch))
            self._order = (epoch, order.to(self._place.device))
        return self._order[1]


def evaluation_batches(data: Images, look: Look, classes: int, place: Place) -> Callable[[int], Iterator[Batch]]:
    """Every sample of this rank's share once, in order, the last batch as long as it comes. Ranks share no sample."""
    first, last = (len(data.ids) * r // place.world for r in (place.rank, place.rank + 1))
    images, targets, ids = (part[first:last].to(place.device) for part in (data.images, data.targets, data.ids))
    mean, std = _moments(look, place)

    def batches(batch_size: int) -> Iterator[Batch]:
        for start in range(
            0, max(len(ids), 1), batch_size
        ):  # an empty share gives an empty batch: ranks sum the same keys
            here = slice(start, start + batch_size)
            yield Batch(
                inputs=normalised(images[here], mean, std, place.memory_format),
                targets=targets[here],
                ids=ids[here],
                positions=torch.arange(start, start + len(ids[here]), device=place.device),
                size=len(ids[here]),
                classes=classes,
            )

    return batches


def resident_sets(
    name: str,
    train: Images,
    val: Images,
    classes: int,
    look: Look,
    place: Place,
    train_size: int | None,
    minival: int,
    names: tuple[str, ...] = (),
) -> DataSets:
    """Carve `minival` images for selection from the training set, then keep `train_size` of the rest."""
    splits = {"val": val}
    if minival >= len(train.ids):
        raise ConfigError(f"data.minival: found {minival}; there are {len(train.ids)} training images to share")
    if minival:
        held_out = stratified(train.targets, minival, name, last=True, key="data.minival")
        splits["minival"] = train.chosen(held_out)
        rest = torch.ones(len(train.targets), dtype=torch.bool)
        rest[held_out] = False
        train = train.chosen(torch.nonzero(rest).flatten())
    if train_size is not None:
        train = train.chosen(stratified(train.targets, train_size, name, key="data.train_size"))
    _, height, width, channels = train.images.shape

    def loader(batch_size: int, seed: int) -> Loader:
        return ResidentLoader(train, look, classes, place, batch_size, seed)

    return DataSets(
        spec=Spec(classes=classes, channels=channels, height=height, width=width),
        loader=loader,
        splits={key: evaluation_batches(part, look, classes, place) for key, part in splits.items()},
        sizes={"train": len(train.ids), **{key: len(part.ids) for key, part in splits.items()}},
        checksum=checksum(train.images, train.targets, train.ids),
        mean=look.mean,
        std=look.std,
        names=names,
    )


def _moments(look: Look, place: Place) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, dtype=place.dtype, device=place.device) for v in (look.mean, look.std))
    return mean, std

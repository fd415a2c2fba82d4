"""Datasets whose pixels are ready as uint8: on the device, in host memory, or in a memory-mapped file. A batch is a
pure function of (data, seed, step): no workers, no state."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from paribus.core.batch import Batch, drop_places, find_largest, list_known_facts, select_facts, unique_sample_ids
from paribus.core.protocols import DataSets, DeviceContext, Loader, Spec
from paribus.data.loaders.epoch_order import BatchIndex
from paribus.data.loaders.storage import StorageChoice, StorageMode, choose_storage, plan_storage
from paribus.data.loaders.subset import (
    TRAIN_SAMPLE,
    choose_train_sample,
    compute_checksum,
    count_classes,
    report_empty_classes,
    split_training_set,
)
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, Interpolation
from paribus.data.ops.inputs import InputTransform, resized_crop
from paribus.data.ops.transfer import to_device


@dataclass(frozen=True)
class Images:
    """images (N, h, w, c) uint8, perhaps memory-mapped; targets (n,) int64 class ids; ids (n,) indices in
    the full set of the source.

    rows: (n,) index of each sample in `images`, so that a subset copies no pixels; None: sample i is image i. also: as
    in `Batch`, on the CPU; training batches have what a crop does not move.
    """

    images: Tensor
    targets: Tensor
    ids: Tensor
    rows: Tensor | None = None
    also: Mapping[str, Tensor] = field(default_factory=dict)

    def select(self, index: Tensor) -> "Images":
        """The samples at these indices, (m,) int64."""
        rows = index if self.rows is None else self.rows[index]
        return Images(self.images, self.targets[index], self.ids[index], rows, select_facts(self.also, index))

    @property
    def image_rows(self) -> Tensor:
        return torch.arange(len(self.ids)) if self.rows is None else self.rows

    @property
    def pixel_bytes(self) -> int:
        """Of the pixels of these samples."""
        return self.images[:1].numel() * len(self.ids)

    def to_storage(self, keep: StorageMode | StorageChoice, device: torch.device) -> "Images":
        """The same samples with their pixels where `keep` says, contiguous.

        auto: as `choose_storage` has it for one set. host: in pinned memory, from which copies to the device are
        fastest. On a CPU, device and host read a mapped file into memory, and auto leaves the pixels as they are.
        """
        keep = keep() if callable(keep) else keep
        if device.type == "cpu":
            where = self if keep in ("auto", "mapped") else self._with_pixels(self._selected_pixels().clone())
            return replace(where, images=where.images.contiguous())
        if keep == "auto":
            keep = choose_storage({"": self.pixel_bytes}, torch.cuda.mem_get_info(device)[0])[""]
        if keep == "device":
            return self._with_pixels(self._selected_pixels().contiguous().to(device))
        return self._with_pixels(self._selected_pixels().contiguous().pin_memory()) if keep == "host" else self

    def _selected_pixels(self) -> Tensor:
        return self.images if self.rows is None else self.images[self.rows]

    def _with_pixels(self, images: Tensor) -> "Images":
        return Images(images, self.targets, self.ids, also=self.also)


class InMemoryLoader:
    """Batches from a dataset in memory. Each epoch is a fresh permutation; an incomplete last batch is dropped.

    keep: a function of it is asked, and the pixels are stored, only when the first batch is made.
    """

    def __init__(
        self,
        data: Images,
        input_spec: InputSpec,
        classes: int,
        place: DeviceContext,
        batch_size: int,
        seed: int,
        keep: StorageMode | StorageChoice = "auto",
    ) -> None:
        labels = data.targets if input_spec.balanced else None
        self._index = BatchIndex(len(data.ids), seed, input_spec.repeats, batch_size, place.world, labels)
        self.steps_per_epoch = self._index.steps_per_epoch
        self._classes, self._place, self._batch_size, self._seed = classes, place, batch_size, seed
        self._source = data
        self._keep: StorageMode | StorageChoice = keep
        if not callable(keep):
            self._data = data.to_storage(keep, place.device)
        self._inputs = InputTransform(input_spec, place)
        self._reports_crop = False
        self._share = self._index.share(place.rank)
        self._host_positions = torch.arange(batch_size)[self._share]
        self._positions = self._host_positions.to(place.device)
        self._epoch = _EpochSamples(-1, data.ids, data.ids, data.ids, None, (data.ids, None), {})
        self._batches_per_block = _count_batches_per_block(batch_size, input_spec, data.images, place)
        self._block: tuple[int, int] = (-1, -1)
        self._batches: list[Batch] = []

    @cached_property
    def _data(self) -> Images:
        return self._source.to_storage(self._keep, self._place.device)

    def report_crop(self) -> None:
        """Have batches say which crop was drawn; before the first one. See ReportsCrop."""
        self._reports_crop = True

    def batch(self, step: int) -> Batch:
        """This rank's part of the global batch of step `step`, augmented and normalised. Do not change it in place."""
        if self._batches_per_block == 1:
            return self._make_batch(step, self._positions, self._share, self._host_positions)
        epoch, start = self._index.locate(step)
        k = start // self._batch_size
        block, i = divmod(k, self._batches_per_block)
        if self._block != (epoch, block):  # cached for speed only, as the order of an epoch is
            self._batches = self._make_batches(step - i, min(self._batches_per_block, self.steps_per_epoch - k + i))
            self._block = (epoch, block)
        return self._batches[i]

    def _make_batches(self, step: int, count: int) -> list[Batch]:
        """The batches of `count` steps of one epoch, made together."""
        size = self._batch_size
        whole = self._make_batch(step, self._positions, slice(0, count * size))
        parts = (whole.inputs.split(size), whole.targets.split(size), whole.ids.split(size))
        batches = [replace(whole, inputs=x, targets=y, ids=ids) for x, y, ids in zip(*parts, strict=True)]
        if not whole.also:
            return batches
        facts = [select_facts(whole.also, slice(k * size, (k + 1) * size)) for k in range(count)]
        return [replace(batch, also=also) for batch, also in zip(batches, facts, strict=True)]

    def _make_batch(
        self, step: int, positions: Tensor, where: slice | Tensor, host_positions: Tensor | None = None
    ) -> Batch:
        epoch, start = self._index.locate(step)
        here = self._load_epoch(epoch).select(where, start)
        images, rows = self._data.images, here.rows
        if images.device.type != self._place.device.type:
            images, rows = _copy_to_device(images, rows, self._place.device)
        draws, also = SampleRandom(self._seed, here.epoch, *here.keys, self._place.device), here.also
        if self._reports_crop:
            also = {**also, "crop": self._inputs.crop_shares(draws, *images.shape[1:3])}
        return Batch(
            inputs=self._inputs.transform_train(images, rows, draws),
            targets=here.targets,
            ids=unique_sample_ids(here.ids, here.copies),
            positions=positions,
            size=self._batch_size,
            classes=self._classes,
            fetch=(lambda places: self._fetch(step, places)) if self._place.world > 1 else None,
            known=None if host_positions is None else (positions, host_positions),
            also=also,
        )

    def _fetch(self, step: int, positions: Tensor) -> Batch:
        """Any positions of a step's global batch. Waits for the device if they lie on it and the pixels do not."""
        host_positions = positions if positions.is_cpu else None
        (there,) = to_device(self._place.device, positions)
        return self._make_batch(step, there, positions, host_positions)

    def _load_epoch(self, epoch: int) -> "_EpochSamples":
        # cached for speed only: it can be made again from the epoch
        if self._epoch.epoch != epoch:
            data, device = self._data, self._place.device
            rows, copies = self._index.order(epoch)
            (there,) = to_device(data.images.device, data.image_rows[rows])
            keys, labels = data.ids[rows], data.targets[rows]
            ids, targets, *again = to_device(device, keys, labels, *([] if copies is None else [copies]))
            facts = drop_places(data.also)
            also = dict(zip(facts, to_device(device, *(values[rows] for values in facts.values())), strict=True))
            self._epoch = _EpochSamples(epoch, there, ids, targets, again[0] if again else None, (keys, copies), also)
        return self._epoch


BLOCK_BYTES = 2**20  # bytes of inputs that are made at once, if several batches fit in: they wait in the L2 cache


def _count_batches_per_block(batch_size: int, input_spec: InputSpec, images: Tensor, place: DeviceContext) -> int:
    """How many batches are made together. A step evicts the caches, so making a small batch between two steps costs
    five times as much as making several in a row: a tenth of the smallest network's step."""
    if place.world > 1:  # this rank's parts of several batches are not contiguous
        return 1
    height, width = input_spec.size(images.shape[1], images.shape[2])
    return max(1, BLOCK_BYTES // (batch_size * height * width * images.shape[3] * place.dtype.itemsize))


@dataclass(frozen=True)
class _EpochSamples:
    """Samples in the order of an epoch: their rows (on the pixels' device), ids, targets and copies (on the training
    device). keys: ids and copies again, for the random numbers, on the host where it knows which samples these are.
    also: as in `Batch`, on the training device."""

    epoch: int
    rows: Tensor
    ids: Tensor
    targets: Tensor
    copies: Tensor | None
    keys: tuple[Tensor, Tensor | None]
    also: Mapping[str, Tensor]

    def select(self, where: slice | Tensor, start: int) -> "_EpochSamples":
        """The samples at these positions of the batch that begins at `start`."""
        if isinstance(where, slice):
            where = beside = slice(where.start + start, where.stop + start)
        else:
            where = where + start
            # a copy from the device to the host has to wait; the other way it need not
            beside = where.to(self.rows.device) if self.rows.is_cpu else to_device(self.rows.device, where)[0]
        there = where if isinstance(where, slice) else to_device(self.ids.device, where)[0]
        ids, copies = _select(there, self.ids, self.copies)
        # positions that only the device knows (another rank's samples, for a transform that mixes) leave the keys there
        keys = _select(where, *self.keys) if isinstance(where, slice) or where.is_cpu else (ids, copies)
        also = select_facts(self.also, there)
        return _EpochSamples(self.epoch, self.rows[beside], ids, self.targets[there], copies, keys, also)


def _select(where: slice | Tensor, ids: Tensor, copies: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return ids[where], None if copies is None else copies[where]


def _copy_to_device(images: Tensor, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The images of a batch, copied from the host to the device without waiting, and their rows there."""
    batch = torch.empty(len(rows), *images.shape[1:], dtype=images.dtype, pin_memory=device.type == "cuda")
    torch.index_select(images, 0, rows, out=batch)
    return batch.to(device, non_blocking=True), torch.arange(len(rows), device=device)


EvalTransform = Callable[[Tensor], Tensor]


def resize_whole(height: int, width: int, interpolation: Interpolation) -> EvalTransform:
    """All of each stored image, (b, h, w, c) uint8, as (b, height, width, c): its sides may be scaled unequally."""

    def transform(images: Tensor) -> Tensor:
        b, h, w, _ = images.shape
        if (h, w) == (height, width):
            return images
        whole = torch.tensor([0, 0, h, w]).expand(b, 4)  # the host's: nothing to wait for
        return resized_crop(images, torch.arange(b, device=images.device), whole, (height, width), interpolation)

    return transform


def build_evaluation(
    data: Images,
    input_spec: InputSpec,
    classes: int,
    place: DeviceContext,
    keep: StorageMode | StorageChoice = "auto",
    eval_transform: EvalTransform | None = None,
) -> Callable[[int], Iterator[Batch]]:
    """Every sample of this rank's share once, in order; the last batch may be smaller. No sample is on two ranks.

    eval_transform: applied to stored images before normalisation (a resize, a centre crop), (b, h, w, c) uint8 to uint8
    of another size; None: they stay as they are. keep: a function of it is asked in the first evaluation.
    """
    n = len(data.ids)
    first, last = (n * r // place.world for r in (place.rank, place.rank + 1))
    inputs = InputTransform(input_spec, place)

    @cache
    def store() -> tuple[Images, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        share = data.select(torch.arange(first, last)).to_storage(keep, place.device)
        rows = share.image_rows.to(share.images.device)
        also = {name: values.to(place.device) for name, values in share.also.items()}
        return share, rows, share.targets.to(place.device), share.ids.to(place.device), also

    if not callable(keep):
        store()

    def batches(batch_size: int) -> Iterator[Batch]:
        share, rows, targets, ids, also = store()
        # an empty share gives an empty batch: ranks sum the same keys
        for start in range(0, max(len(ids), 1), batch_size):
            here = slice(start, start + batch_size)
            if share.images.device.type == place.device.type:
                images = share.images[rows[here]]
            else:
                images, _ = _copy_to_device(share.images, rows[here], place.device)
            yield Batch(
                inputs=inputs.transform_eval(images if eval_transform is None else eval_transform(images)),
                targets=targets[here],
                ids=ids[here],
                positions=torch.arange(start, start + len(ids[here]), device=place.device),
                size=len(ids[here]),
                classes=classes,
                also=select_facts(also, here),
            )

    return batches


def build_in_memory_sets(
    name: str,
    train: Images,
    val: Images,
    classes: int,
    input_spec: InputSpec,
    place: DeviceContext,
    train_size: int | None,
    minival: int,
    names: tuple[str, ...] = (),
    keep: StorageMode = "auto",
    eval_transform: EvalTransform | None = None,
    pixels: str | None = None,
    class_ids: tuple[str, ...] = (),
    further: Mapping[str, Images] | None = None,
    strata: Tensor | None = None,
) -> DataSets:
    """Hold out `minival` images for selection from the training set, then keep `train_size` of the rest.

    eval_transform: applied to stored images in evaluation (see build_evaluation), for every split. pixels: a checksum
    that stands for the training pixels (a pack has one), so that they need not be read for the subset's checksum.
    class_ids: by which classes are matched with another set's, if not by `names`. further: evaluation splits beside
    `val`, by name. strata: (n,) int64 of the training samples, which subsets keep in proportion; None: the classes.
    """
    used, held_out = split_training_set(train.targets if strata is None else strata, name, train_size, minival)
    splits = {"val": val, **(further or {})}
    if held_out is not None:
        splits["minival"] = train.select(held_out)
    if len(used) < len(train.ids):
        train = train.select(used)
    report_empty_classes({"train": train.targets, **{k: s.targets for k, s in splits.items()}}, classes, names, place)
    _, height, width, channels = train.images.shape
    height, width = input_spec.size(height, width)

    evaluated = {**splits, TRAIN_SAMPLE: train.select(choose_train_sample(len(train.ids)))}
    sizes = {"": train.pixel_bytes, **{key: -(-part.pixel_bytes // place.world) for key, part in evaluated.items()}}
    stored = plan_storage(keep, place.device, sizes)

    def loader(batch_size: int, seed: int) -> Loader:
        return InMemoryLoader(train, input_spec, classes, place, batch_size, seed, stored[""])

    def whole(batch_size: int, size: int | None) -> Iterator[Batch]:
        sides = (height, width) if size is None else (size, size)
        resize = resize_whole(*sides, getattr(input_spec.crop, "interpolation", "bilinear"))
        return build_evaluation(train, input_spec, classes, place, stored[""], resize)(batch_size)

    return DataSets(
        spec=Spec(classes=classes, channels=channels, height=height, width=width),
        loader=loader,
        whole=whole,
        splits={
            key: build_evaluation(part, input_spec, classes, place, stored[key], eval_transform)
            for key, part in evaluated.items()
        },
        sizes={"train": len(train.ids), **{key: len(part.ids) for key, part in splits.items()}},
        checksum=compute_checksum(
            pixels or train.images, train.targets, train.ids, train.rows, drop_places(train.also)
        ),
        mean=input_spec.mean,
        std=input_spec.std,
        names=names,
        class_ids=class_ids,
        class_counts=count_classes(train.targets, classes),
        facts={
            **({"train": known} if (known := list_known_facts(drop_places(train.also))) else {}),
            **{key: list_known_facts(part.also) for key, part in evaluated.items()},
        },
        largest=find_largest(drop_places(train.also)),
        part_sizes={TRAIN_SAMPLE: len(evaluated[TRAIN_SAMPLE].ids)},
    )

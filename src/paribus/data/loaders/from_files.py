"""Datasets whose images are decoded again in every step: an ImageFolder tree, or the user's own dataset class.

The same contract as in_memory.py: a batch is a pure function of (data, seed, step), whatever the number of workers.
Workers decode, crop and flip (decode_batch.py); augmentation and normalisation happen here, for the whole batch on the
device.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from paribus.core.batch import Batch, find_largest, list_known_facts, select_facts, unique_sample_ids
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import DataSets, DeviceContext, Loader, Spec
from paribus.data.loaders.decode_batch import DecodedBatch, EvalDecoder, FileSamples, TrainDecoder
from paribus.data.loaders.epoch_order import BatchIndex
from paribus.data.loaders.settings import ImageDataSettings, build_input_spec, choose_workers
from paribus.data.loaders.subset import (
    TRAIN_SAMPLE,
    choose_strata,
    choose_train_sample,
    compute_checksum,
    count_classes,
    report_empty_classes,
    split_training_set,
)
from paribus.data.loaders.worker_pool import WorkerPool
from paribus.data.ops import native
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec
from paribus.data.ops.inputs import InputTransform
from paribus.data.ops.transfer import to_device
from paribus.data.trees.source import FolderSource, Source

_TENSORS = ("inputs", "targets", "ids")  # of a batch, a row each sample
_OF_TRAINING = "left out where training images are evaluated, replaced by another of its class in training"
_MAX_WARNINGS = 20  # warnings about images that do not decode; further ones are only counted


class DecodeErrors:
    """Reports each image that does not decode once, on standard error, and the first 16-bit image that is black since
    only its low bytes are used. One for all loaders of a dataset; on each rank it knows of the images of that rank."""

    def __init__(self, is_skipping: bool = False) -> None:
        """is_skipping: whether such images are left out already, where others can stand in."""
        self._names: dict[str, None] = {}
        self._is_skipping, self._is_black_reported = is_skipping, False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images that did not decode, in the order in which they were met."""
        return tuple(self._names)

    def check(self, decoded: DecodedBatch) -> DecodedBatch:
        """The decoded images again, if they can be used. Raises ConfigError if one that must not be missing did not
        decode."""
        if decoded.error is not None:
            advice = "" if self._is_skipping else "; data.on_error=skip trains and evaluates without such images"
            message = decoded.error + advice
            raise ConfigError(" ".join(message.split())) from Exception(decoded.trace)
        if decoded.black and not self._is_black_reported:
            self._is_black_reported = True
            print(
                f"warning: {decoded.black}: a 16-bit image whose values are all below 256 is black, as the high byte "
                "is what is read; rescale such files to 0..65535",
                file=sys.stderr,
            )
        for name, line in decoded.undecodable:
            if name in self._names:
                continue
            self._names[name] = None
            if len(self._names) <= _MAX_WARNINGS:
                print(f"warning: {line}", file=sys.stderr)
            if len(self._names) == _MAX_WARNINGS:
                print(
                    f"warning: {_MAX_WARNINGS} images do not decode; further ones are not reported",
                    file=sys.stderr,
                )
        return decoded


class DecodingLoader:
    """Training batches, decoded by `workers` processes ahead of the step, or in this one (0).

    Another rank's samples that a transform requests (Batch.fetch) are decoded with this rank's share if they are known
    ahead (`prepare_partners`); else here, in threads, while the step waits.
    """

    def __init__(
        self,
        samples: FileSamples,
        input_spec: InputSpec,
        classes: int,
        place: DeviceContext,
        batch_size: int,
        seed: int,
        workers: int,
        replace_undecodable: bool = False,
        decode_errors: DecodeErrors | None = None,
    ) -> None:
        labels = samples.targets if input_spec.balanced else None
        self._batch_index = BatchIndex(len(samples), seed, input_spec.repeats, batch_size, place.world, labels)
        share = self._batch_index.share(place.rank)
        self._samples, self._classes, self._place, self._batch_size = samples, classes, place, batch_size
        self._decoder = TrainDecoder(
            samples, input_spec, self._batch_index, share.start, share.stop, replace_undecodable
        )
        self._inputs = InputTransform(replace(input_spec, flip=False), place)  # workers flip
        native.load_kernels()  # compiled, or warned about, once and not in every worker
        self._workers, self._threads = workers, max(1, workers)
        self._pool = self._make_pool()
        self._positions = torch.arange(share.start, share.stop)
        self._positions_on_device = self._positions.to(place.device)
        self._decode_errors = decode_errors or DecodeErrors()

    @property
    def steps_per_epoch(self) -> int:
        return self._batch_index.steps_per_epoch

    def prepare_partners(self, partners: Callable[[int, Tensor], Tensor]) -> None:
        """Have the workers decode the samples that transforms ask for together with this rank's share; before the first
        batch. See PreparesPartners."""
        self._change_decoder(replace(self._decoder, partners=partners))

    def report_crop(self) -> None:
        """Have batches say which crop was drawn; before the first one. See ReportsCrop."""
        self._change_decoder(replace(self._decoder, reports_crop=True))

    def batch(self, step: int) -> Batch:
        """This rank's part of the global batch of step `step`. Raises ConfigError for an image that does not
        decode, RunFailed for a worker that died."""
        try:
            decoded = self._decode_errors.check(self._pool.take(step))
        except (ConfigError, RunFailed):
            self.close()
            raise
        if self._place.world == 1:
            return self._make_batch(step, self._positions, decoded)
        there = self._decoder.positions(step)
        ready = self._make_batch(step, there, decoded)
        share = slice(0, len(self._positions))  # it comes first
        return replace(
            ready,
            **{name: getattr(ready, name)[share] for name in _TENSORS},
            also=select_facts(ready.also, share),
            positions=self._positions_on_device,
            fetch=lambda positions: self._fetch(step, positions, ready, there),
            known=(self._positions_on_device, self._positions),
        )

    def close(self) -> None:
        """End the workers; they also end with the loader and with the process."""
        self._pool.close()

    def _change_decoder(self, decoder: TrainDecoder) -> None:
        self._decoder = decoder
        self._pool.close()
        self._pool = self._make_pool()

    def _make_pool(self) -> WorkerPool[DecodedBatch]:
        return WorkerPool(self._decoder, self._workers, pinned=self._place.device.type == "cuda")

    def _make_batch(self, step: int, positions: Tensor, decoded: DecodedBatch) -> Batch:
        """The samples at these positions (on the CPU), as they were decoded."""
        device = self._place.device
        epoch, rows, copies = self._batch_index.samples_at(step, positions)
        draws = SampleRandom(self._batch_index.seed, epoch, self._samples.ids[rows], copies, device)
        facts = select_facts(self._samples.facts, decoded.rows)  # of the image that is shown
        if decoded.crops is not None:
            facts["crop"] = decoded.crops.to(self._place.dtype)
        ids, targets, *further = to_device(
            device,
            unique_sample_ids(draws.ids, copies),
            self._samples.targets[rows],
            *facts.values(),
            *([] if positions is self._positions else [positions]),
        )
        return Batch(
            inputs=self._inputs.transform_cropped(decoded.pixels.to(device, non_blocking=True), draws),
            targets=targets,
            ids=ids,
            positions=self._positions_on_device if positions is self._positions else further[-1],
            size=self._batch_size,
            classes=self._classes,
            also=dict(zip(facts, further, strict=False)),
        )

    def _fetch(self, step: int, positions: Tensor, ready: Batch, there: Tensor) -> Batch:
        """Any positions of a step's global batch. ready: samples that are made already, at the positions `there` (on
        the CPU). Waits for the device if the requested positions lie on it, since the host has to know them."""
        here, device = positions.cpu(), self._place.device
        rows = torch.full((self._batch_size,), -1)
        rows[there] = torch.arange(len(there))
        missing = here[rows[here] < 0].unique()
        if len(missing):
            made = self._make_batch(step, missing, self._decode(step, missing))
            both = {name: torch.cat((getattr(ready, name), getattr(made, name))) for name in _TENSORS}
            also = {name: torch.cat((values, made.also[name])) for name, values in ready.also.items()}
            rows[missing] = torch.arange(len(missing)) + len(there)
            ready, there = replace(ready, **both, also=also), torch.cat((there, missing))
        chosen, positions = to_device(device, rows[here], positions)
        return replace(
            ready,
            **{name: getattr(ready, name)[chosen] for name in _TENSORS},
            also=select_facts(ready.also, chosen),
            positions=positions,
            fetch=lambda positions: self._fetch(step, positions, ready, there),
            known=(positions, here),
        )

    def _decode(self, step: int, positions: Tensor) -> DecodedBatch:
        """The samples at these positions (on the CPU), in threads: Pillow releases the GIL while it decodes."""

        def decode(part: Tensor) -> DecodedBatch:
            return self._decode_errors.check(self._decoder.at(step, part, lambda: True))

        with ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(decode, positions.chunk(self._threads)))
        crops = [part.crops for part in parts if part.crops is not None]
        return DecodedBatch(
            torch.cat([part.pixels for part in parts]),
            torch.cat([part.rows for part in parts]),
            crops=torch.cat(crops) if crops else None,
        )


def build_decoded_evaluation(
    samples: FileSamples,
    settings: ImageDataSettings,
    classes: int,
    place: DeviceContext,
    decode_errors: DecodeErrors,
    remedy: str = "it is left out",
    whole: int | None = None,
) -> Callable[[int], Iterator[Batch]]:
    """Every sample of this rank's share once, in order; the last batch may be smaller. No sample is on two ranks.

    Decoded again in each evaluation, by workers that live as long as it does: so memory stays small for a dataset of
    any size, at the cost of decoding as many training images. remedy: as in EvalDecoder. whole: pixels a side of all of
    each image; None: the centre crop.
    """
    n = len(samples)
    own_samples = samples.select(torch.arange(n * place.rank // place.world, n * (place.rank + 1) // place.world))
    inputs, cuda = InputTransform(build_input_spec(settings), place), place.device.type == "cuda"
    size = whole or settings.size
    image_bytes = size**2 * settings.channels

    def batches(batch_size: int) -> Iterator[Batch]:
        workers = choose_workers(settings.workers, place, image_bytes)  # an item is a part of a batch
        workers = min(workers, batch_size, len(own_samples))
        pieces = max(1, workers)
        decoder = EvalDecoder(
            own_samples,
            size,
            settings.eval_ratio,
            settings.interpolation,
            batch_size,
            pieces,
            settings.on_error == "skip",
            settings.channels,
            remedy,
            whole is not None,
        )
        pool = WorkerPool(decoder, workers, pinned=cuda)
        try:
            # an empty share gives an empty batch: ranks sum the same keys
            for k in range(max(1, -(-len(own_samples) // batch_size))):
                parts = [decode_errors.check(pool.take(index)) for index in range(k * pieces, (k + 1) * pieces)]
                rows = torch.cat([part.rows for part in parts])
                # copied to the device in pieces, from pinned memory, and concatenated there
                pixels = torch.cat([part.pixels.to(place.device, non_blocking=True) for part in parts])
                facts = select_facts(own_samples.facts, rows)
                if boxes := [part.boxes for part in parts if part.boxes is not None]:
                    facts["box"] = torch.cat(boxes)
                targets, ids, places, *also = to_device(
                    place.device, own_samples.targets[rows], own_samples.ids[rows], rows, *facts.values()
                )
                yield Batch(
                    inputs=inputs.transform_eval(pixels),
                    targets=targets,
                    ids=ids,
                    positions=places,
                    size=len(rows),
                    classes=classes,
                    known=(places, rows),
                    also=dict(zip(facts, also, strict=True)),
                )
        finally:
            pool.close()

    return batches


def build_decoded_sets(
    name: str,
    train: Source,
    val: Source,
    settings: ImageDataSettings,
    place: DeviceContext,
    names: tuple[str, ...],
    boxes: Mapping[str, Tensor] | None = None,
    facts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> DataSets:
    """Two sources of images, decoded in every step. names: of the classes, () if not known. boxes: of all images of
    "train" and "val", as in `FileSamples`; for evaluation batches. facts: of all images of "train" and "val", (n, …) by
    name; those of "group" are kept in proportion in each class, as classes are.

    The checksum is of the chosen training samples' names, labels, facts and, where they are files, sizes: reading a
    large dataset at each start would take too long.
    """
    every_box, every_fact = boxes or {}, {"train": {}, "val": {}, **(facts or {})}
    strata = choose_strata(train.targets, every_fact["train"])
    chosen, held_out = split_training_set(strata, name, settings.train_size, settings.minival)
    skip, classes = settings.on_error == "skip", len(train.classes)
    decode_errors, input_spec = DecodeErrors(skip), build_input_spec(settings)
    whole, tested = (
        FileSamples(source, torch.arange(len(source.targets)), every_box.get(split), every_fact[split])
        for split, source in (("train", train), ("val", val))
    )
    samples = whole.select(chosen)
    parts = {"val": tested}
    if held_out is not None:
        parts["minival"] = whole.select(held_out)
    report_empty_classes({"train": samples.targets, **{k: s.targets for k, s in parts.items()}}, classes, names, place)

    def loader(batch_size: int, seed: int) -> Loader:
        item_bytes = -(-batch_size // place.world) * settings.size**2 * settings.channels
        workers = choose_workers(settings.workers, place, item_bytes)
        return DecodingLoader(samples, input_spec, classes, place, batch_size, seed, workers, skip, decode_errors)

    splits = {
        key: build_decoded_evaluation(part, settings, classes, place, decode_errors) for key, part in parts.items()
    }
    some = samples.select(choose_train_sample(len(samples)))
    splits[TRAIN_SAMPLE] = build_decoded_evaluation(some, settings, classes, place, decode_errors, _OF_TRAINING)

    def whole_images(batch_size: int, size: int | None) -> Iterator[Batch]:
        side = size or settings.size
        return build_decoded_evaluation(samples, settings, classes, place, decode_errors, whole=side)(batch_size)

    return DataSets(
        spec=Spec(classes=classes, channels=settings.channels, height=settings.size, width=settings.size),
        loader=loader,
        whole=whole_images,
        splits=splits,
        sizes={"train": len(samples), **{key: len(part) for key, part in parts.items()}},
        checksum=compute_checksum(_hash_file_sizes(samples), samples.targets, samples.ids, facts=samples.facts),
        mean=input_spec.mean,
        std=input_spec.std,
        names=names,
        class_ids=train.classes if names else (),
        class_counts=count_classes(samples.targets, classes),
        undecodable=lambda: decode_errors.names,
        facts=_name_facts(samples, {TRAIN_SAMPLE: some, **parts}),
        largest=find_largest(samples.facts),
        part_sizes={TRAIN_SAMPLE: len(some)},
    )


def _name_facts(train: FileSamples, evaluated: Mapping[str, FileSamples]) -> dict[str, tuple[str, ...]]:
    """As in `DataSets.facts`."""
    named = {"train": known} if (known := list_known_facts(train.facts)) else {}
    for key, part in evaluated.items():
        boxes = {} if part.boxes is None else {"box": part.boxes}
        named[key] = list_known_facts({**part.facts, **boxes})
    return named


def _hash_file_sizes(samples: FileSamples) -> str:
    """sha256 over name and size of each sample. A missing file has size -1."""
    digest, source = hashlib.sha256(), samples.source
    for index in samples.ids.tolist():
        size = 0
        if isinstance(source, FolderSource):
            try:
                size = source.path(index).stat().st_size
            except OSError:
                size = -1
        digest.update(os.fsencode(f"{source.image_name(index)}\0{size}\n"))
    return digest.hexdigest()

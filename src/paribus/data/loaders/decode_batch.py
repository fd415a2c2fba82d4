"""Decodes files to uint8 pixels of one size: the work of a data worker for a batch.

Each decoder is picklable and returns, for an index, pixels that depend on that index alone. Random numbers belong to
samples, so a training image is cropped as its packed pixels would be, bit-exact where the pack stores the pixels as the
decoder gave them.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paribus.core.batch import select_facts, unique_sample_ids
from paribus.core.streams import key64
from paribus.data.loaders.epoch_order import BatchIndex
from paribus.data.loaders.worker_pool import allocate_buffer
from paribus.data.ops import native as kernels
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, Interpolation, ResizedCrop
from paribus.data.ops.resize import SUPPORT
from paribus.data.trees.boxes import place_boxes
from paribus.data.trees.decoding import LOW_BYTES_ONLY, BadImage, Placement
from paribus.data.trees.source import Source

_CHUNK = 32  # images decoded before their boxes are drawn together; one by one the drawing would cost more than a crop
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class FileSamples:
    """Some samples of a source. ids: (n,) int64, their indices in its full listing, in increasing order. boxes: (n, 4)
    float64 edges of their objects in pixels of the files, NaN for none; None: of a source without boxes. facts: (n, …)
    by name, what `Batch.also` has of them."""

    source: Source
    ids: Tensor
    boxes: Tensor | None = None
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def targets(self) -> Tensor:
        """(n,) int64 class ids."""
        return self.source.targets[self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, row: int) -> str:
        return self.source.image_name(int(self.ids[row]))

    def select(self, index: Tensor) -> "FileSamples":
        boxes = None if self.boxes is None else self.boxes[index]
        return FileSamples(self.source, self.ids[index], boxes, select_facts(self.facts, index))


class Undecodable(NamedTuple):
    """An image that did not decode. line: which, why, and what is done without it."""

    name: str
    line: str


class DecodedBatch(NamedTuple):
    """pixels: (b, size, size, c) uint8. rows: (b,) int64, which of the samples they show; in training that is another
    sample's row where one stands in for an image that did not decode. boxes: (b, 4) float32, in those pixels; of
    evaluation alone, and of samples that have boxes. crops: (b, 4) float64, as `Batch.also["crop"]` has them; of
    training alone, where they are asked for.

    undecodable: images that did not decode, if that is tolerated. black: the name of a 16-bit image that is black since
    only its low bytes are used, if there is one (trees/decoding.py). error: the line if an image that is not tolerated
    did not decode, and trace, its traceback; then the pixels mean nothing.
    """

    pixels: Tensor
    rows: Tensor
    undecodable: tuple[Undecodable, ...] = ()
    black: str = ""
    error: str | None = None
    trace: str = ""
    boxes: Tensor | None = None
    crops: Tensor | None = None

    @staticmethod
    def failure(error: BadImage) -> "DecodedBatch":
        nothing = torch.empty(0, dtype=torch.uint8)
        return DecodedBatch(nothing, nothing, error=str(error), trace="".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class TrainDecoder:
    """Crops for the training steps. first, last: this rank's share of the positions of the global batch.

    partners: (step, the share) -> further positions that are made with it, for transforms that mix samples.
    replace_undecodable: an image that does not decode is replaced by the next one of its class that does, in listing
    order, cropped with the random numbers of the one it replaces, so nothing else in the batch changes; else the batch
    fails. reports_crop: whether the crops that were drawn come with the pixels.
    """

    samples: FileSamples
    input_spec: InputSpec
    batch_index: BatchIndex
    first: int
    last: int
    replace_undecodable: bool
    partners: Callable[[int, Tensor], Tensor] | None = None
    reports_crop: bool = False

    def __call__(self, index: int, is_wanted: Callable[[], bool]) -> DecodedBatch:
        """What this rank needs for step `index`: the samples at `positions`."""
        return self.at(index, self.positions(index), is_wanted)

    def positions(self, step: int) -> Tensor:
        """The positions that are made for a step: this rank's share, then its partners."""
        share = torch.arange(self.first, self.last)
        return share if self.partners is None else torch.cat((share, self.partners(step, share)))

    def at(self, step: int, positions: Tensor, is_wanted: Callable[[], bool]) -> DecodedBatch:
        """The samples at these positions (CPU) of a step's global batch."""
        epoch, rows, copies = self.batch_index.samples_at(step, positions)
        ids = self.samples.ids[rows]
        crop = self.input_spec.crop
        assert isinstance(crop, ResizedCrop)
        pixels = allocate_buffer(len(rows), crop.size, crop.size, self.input_spec.channels)
        bad, black, shown = list[Undecodable](), "", list[int]()
        crops = torch.empty(len(rows), 4, dtype=torch.float64) if self.reports_crop else None
        for start in range(0, len(rows), _CHUNK):
            here = slice(start, start + _CHUNK)
            images = list[Image.Image]()
            for row in rows[here].tolist():
                if not is_wanted():
                    return DecodedBatch(pixels, rows)
                try:
                    image, row_shown = self._load_image(row, bad)
                except BadImage as error:
                    return DecodedBatch.failure(error)
                images.append(image)
                shown.append(row_shown)
                black = black or _name_if_black(image, self.samples, row)
            draws = SampleRandom(self.batch_index.seed, epoch, ids[here], None if copies is None else copies[here])
            crop_images(images, crop, draws, self.input_spec.flip, pixels[here])
            if crops is not None:  # drawn once more: little beside the decoding
                widths, heights = torch.tensor([image.size for image in images]).unbind(1)
                crops[here] = crop.shares(draws, heights, widths)
        return DecodedBatch(pixels, torch.tensor(shown, dtype=torch.int64), tuple(bad), black, crops=crops)

    def _load_image(self, row: int, bad: list[Undecodable]) -> tuple[Image.Image, int]:
        """The image of this row, or one that stands in for it, and the row of what it shows."""
        source, index = self.samples.source, int(self.samples.ids[row])
        try:
            return source.image(index), row
        except BadImage as error:
            if not self.replace_undecodable:
                raise
            for other in self._next_of_class(row):
                name = self.samples.name(other)
                try:
                    image = source.image(int(self.samples.ids[other]))
                except BadImage:
                    continue
                line = f"{error}; replaced by {name} in training, left out where training images are evaluated"
                bad.append(Undecodable(source.image_name(index), line))
                return image, other
            raise BadImage(f"{error}; no other image of its class decodes either") from error

    def _next_of_class(self, row: int) -> Iterator[int]:
        """Rows of the other samples of this one's class, those after it first."""
        targets = self.samples.targets
        same = torch.nonzero(targets == targets[row]).flatten().tolist()
        place = same.index(row)
        yield from same[place + 1 :] + same[:place]


@dataclass(frozen=True)
class EvalDecoder:
    """Pieces of evaluation batches: index k · pieces + j is piece j of batch k, so that all workers share a batch.

    With `skip`, an image that does not decode is left out. remedy: what the warning says of that. whole: all of each
    image, resized to size×size, in place of the centre crop.
    """

    samples: FileSamples
    size: int
    ratio: float
    interpolation: Interpolation
    batch_size: int
    pieces: int
    skip: bool
    channels: int = 3
    remedy: str = "it is left out"
    whole: bool = False

    def __call__(self, index: int, is_wanted: Callable[[], bool]) -> DecodedBatch:
        batch, piece = divmod(index, self.pieces)
        share = -(-self.batch_size // self.pieces)
        start = batch * self.batch_size + piece * share
        stop = min(start + share, (batch + 1) * self.batch_size, len(self.samples))
        rows, bad, black = list[int](), list[Undecodable](), ""
        sizes, placements = list[tuple[int, int]](), list[Placement]()
        pixels = allocate_buffer(max(0, stop - start), self.size, self.size, self.channels)
        out = pixels.numpy()
        for row in range(start, stop):
            if not is_wanted():
                break
            try:
                image = self.samples.source.image(int(self.samples.ids[row]))
            except BadImage as error:
                if not self.skip:
                    return DecodedBatch.failure(error)
                bad.append(Undecodable(self.samples.name(row), f"{error}; {self.remedy}"))
                continue
            black = black or _name_if_black(image, self.samples, row)
            if self.whole:
                out[len(rows)] = to_array(image.resize((self.size, self.size), FILTERS[self.interpolation]))
            else:
                out[len(rows)] = resize_center_crop(image, self.size, self.ratio, self.interpolation)
            rows.append(row)
            sizes.append(image.size)
            placements.append(place_center(*image.size, self.size, self.ratio))
        chosen = torch.tensor(rows, dtype=torch.int64)
        boxes = None
        if self.samples.boxes is not None:
            placed = place_boxes(self.samples.boxes[chosen].numpy(), np.array(sizes), placements, self.size)
            boxes = torch.from_numpy(placed).float()
        return DecodedBatch(pixels[: len(rows)], chosen, tuple(bad), black, boxes=boxes)


def _name_if_black(image: Image.Image, samples: FileSamples, row: int) -> str:
    return samples.name(row) if image.info.get(LOW_BYTES_ONLY) else ""


def crop_images(images: list[Image.Image], crop: ResizedCrop, draws: SampleRandom, flip: bool, out: Tensor) -> None:
    """Each image's box, resized and flipped if so drawn, into out (b, size, size, c) uint8."""
    widths, heights = torch.tensor([image.size for image in images]).unbind(1)
    boxes = crop.boxes(draws, heights, widths)
    if (native := kernels.load_kernels()) is not None:
        _crop_images_natively(native, images, crop, draws, flip, boxes.contiguous(), out)
        return
    mirrored = draws("flip", 1)[:, 0] < 0.5 if flip else torch.zeros(len(images), dtype=torch.bool)
    for image, (top, left, height, width), mirror, to in zip(
        images, boxes.tolist(), mirrored.tolist(), out.numpy(), strict=True
    ):
        part = image.crop((left, top, left + width, top + height))
        part = to_array(part.resize((crop.size, crop.size), FILTERS[crop.interpolation]))
        to[:] = part[:, ::-1] if mirror else part


def _crop_images_natively(
    native: Any,
    images: list[Image.Image],
    crop: ResizedCrop,
    draws: SampleRandom,
    flip: bool,
    boxes: Tensor,
    out: Tensor,
) -> None:
    """The kernel of inputs.c, bit-exact with Pillow in about half the time, with the flip at no cost."""
    ids = unique_sample_ids(draws.ids, draws.copies).contiguous()
    key = key64(draws.seed, "augment.flip", draws.epoch)
    for k, image in enumerate(images):
        pixels = np.asarray(image)
        job = kernels.KernelArguments(
            images=pixels.ctypes.data,
            ids=ids[k].data_ptr(),
            boxes=boxes[k].data_ptr(),
            out_bytes=out[k].data_ptr(),
            count=1,
            height=image.height,
            width=image.width,
            channels=out.shape[3],
            out_height=crop.size,
            out_width=crop.size,
            key=key,
            flip=1 if flip else 0,  # which of its random numbers
            support=int(SUPPORT[crop.interpolation]),
            threads=1,
        )
        if native.pixels(job, None):
            raise MemoryError("no memory for the rows of an image")


def place_center(width: int, height: int, size: int, ratio: float) -> Placement:
    """Of `resize_center_crop`, for an image of this size."""
    shorter = round(size / ratio)
    if min(width, height) != shorter:
        longer = int(shorter * max(width, height) / min(width, height))
        width, height = (shorter, longer) if width <= height else (longer, shorter)
    return Placement(width, height, round((width - size) / 2.0), round((height - size) / 2.0))


def resize_center_crop(
    image: Image.Image, size: int, ratio: float, interpolation: Interpolation
) -> "np.ndarray[Any, Any]":
    """The centre size×size crop, (size, size, c) uint8, of the image with its shorter side at round(size / ratio).

    As torchvision's Resize and CenterCrop for a PIL image: the longer side is rounded down, the margin half to even.
    """
    width, height, left, top = place_center(*image.size, size, ratio)
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[interpolation])
    return to_array(image.crop((left, top, left + size, top + size)))


def to_array(image: Image.Image) -> "np.ndarray[Any, Any]":
    """(h, w, c) uint8, also for an image of one channel."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]

"""Cluttered MNIST: a digit at any place of a canvas, among fragments of other digits, which say nothing of the class.

After the translated and cluttered digits of Mnih, Heess, Graves & Kavukcuoglu, "Recurrent Models of Visual Attention",
NeurIPS 2014, arXiv 1406.6247, in sizes of our own. Since the canvas is made here, the pixels that are the digit's are
known to the bit: `Batch.also` of evaluation batches has them as "mask", by which attribution maps are measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.subset import sample_stratified
from paribus.data.ops.crop_flip import downsample
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop
from paribus.data.trees.mnist_files import find_mnist, is_mnist_at, read_mnist

INK = 64  # grey levels: from here on a pixel of the digit belongs to its mask; below is the soft edge of a stroke


@schema
class ClutteredMnist:
    """60,000 training and 10,000 test images, grey, 10 classes; the test set is the split `val`. `Batch.also` of
    evaluation batches has "mask", (n, size, size) bool: the digit's own pixels.

    size: of the canvas, pixels a side. digit: of the digit on it. fragments: how many pieces of other digits there are.
    fragment: their size. draw: other places and fragments for another number. root: the folder that holds MNIST/raw;
    else PARIBUS_DATA, else ./data. train_size: a stratified subset of the training set. val_size: of the test set.
    minival: images held out from the training set for selection. sampling: each image once an epoch, or each class
    equally often. augment: further augmentations by name, in order.
    """

    size: Annotated[int, Field(ge=4)] = 32
    digit: Annotated[int, Field(ge=4, le=28)] = 14
    fragments: Annotated[int, Field(ge=0)] = 8
    fragment: Annotated[int, Field(ge=1)] = 6
    draw: Annotated[int, Field(ge=0)] = 0
    root: str | None = None
    train_size: Annotated[int, Field(ge=1)] | None = None
    val_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fragment <= self.digit <= self.size:
            raise ValueError(
                f"found fragments of {self.fragment} pixels, a digit of {self.digit} and a canvas of {self.size}; each "
                "has to fit into the next"
            )

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return is_mnist_at(root)

    def __call__(self, place: DeviceContext) -> DataSets:
        folder = find_mnist(self.root)
        train, val = (self._scatter(*read_mnist(folder, split), split) for split in ("train", "t10k"))
        if self.val_size is not None:
            val = val.select(sample_stratified(val.targets, self.val_size, "cluttered_mnist", key="data.val_size"))
        balanced = self.sampling == "balanced"
        spec = InputSpec((0.087,), (0.242,), PadCrop(pad=0), False, self.augment, 1, balanced)
        limits = (self.train_size, self.minival)
        return build_in_memory_sets("cluttered_mnist", train, val, 10, spec, place, *limits, tuple("0123456789"))

    def _scatter(self, digits: Tensor, labels: Tensor, split: str) -> Images:
        small = downsample(digits[..., None], self.digit)[..., 0]
        canvas, mask = scatter(small, self.size, self.fragments, self.fragment, self.draw, split)
        return Images(canvas[..., None], labels, torch.arange(len(labels)), also={"mask": mask})


def scatter(digits: Tensor, size: int, fragments: int, fragment: int, draw: int, split: str) -> tuple[Tensor, Tensor]:
    """(n, d, d) digits to (n, size, size) uint8 canvases and their (n, size, size) bool masks.

    A fragment is a square of any digit of the split but the image's own, at any place. Where things overlap, the
    brighter pixel is seen; the mask has every pixel of the digit, whether it is covered or not. split: names the draws.
    """
    n, d = digits.shape[:2]
    random = stream(draw, "cluttered_mnist", split, size, d, fragments, fragment)

    def any_of(count: int) -> Tensor:
        return torch.randint(count, (n,), generator=random)

    own = _paste(digits, torch.arange(n), any_of(size - d + 1), any_of(size - d + 1), size)
    canvas = own
    for _ in range(fragments):
        other = (torch.arange(n) + 1 + any_of(max(n - 1, 1))) % n
        pieces = _cut(digits, other, any_of(d - fragment + 1), any_of(d - fragment + 1), fragment)
        where = any_of(size - fragment + 1), any_of(size - fragment + 1)
        canvas = torch.maximum(canvas, _paste(pieces, torch.arange(n), *where, size))
    return canvas, own >= INK


def _cut(images: Tensor, rows: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """(n, side, side): a square of each of the rows of (m, h, w)."""
    along = torch.arange(side)
    return images[rows[:, None, None], (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]]


def _paste(pieces: Tensor, rows: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """(n, size, size), black but for each image's piece of (n, side, side)."""
    canvas = pieces.new_zeros(len(pieces), size, size)
    along = torch.arange(pieces.shape[1])
    canvas[rows[:, None, None], (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]] = pieces
    return canvas

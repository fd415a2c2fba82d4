"""Digit tiles: images of four digits labelled as one of them, as an ImageNet label names one object of many.

An image is a canvas of 2×2 tiles, each an MNIST digit at half its size, of four different classes. Its label is the
class of one of the four, chosen at random. So the truth at each place is known, and a crop onto a tile shows the
labelled digit in a quarter of the cases only. After naver-ai's ReLabel (Yun et al. 2021, arXiv 2101.05022), whose
question this set puts in small; the set is ours.

`val` has test digits one at a time: a tile enlarged to the canvas, which is what a training crop onto just that tile
shows. `train=single` has training digits so, for a teacher: it learns digits of the canvas's size, and on tiles at
twice the size (`paribus data label-map --size 56`) each digit is as large as it knows them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.in_memory import Images, build_in_memory_sets, resize_whole
from paribus.data.ops.crop_flip import downsample
from paribus.data.ops.input_spec import Augmentation, InputSpec, ResizedCrop
from paribus.data.trees.mnist_files import find_mnist, is_mnist_at, read_mnist

TILE, CANVAS, CLASSES = 14, 28, 10  # pixels a side; a canvas has 2×2 tiles
_Share = Annotated[float, Field(gt=0, le=1)]


@schema
class DigitTiles:
    """n training images of 28×28 pixels, made of MNIST's training digits; `val` are its 10,000 test digits, one an
    image.

    train: tiles, or one digit an image (single). n: training images. draw: which digits and labels; the images are a
    function of it alone. root: the folder that holds MNIST/raw; else PARIBUS_DATA, else ./data. scale: least and
    greatest share of the area of a training crop, which is resized to the canvas; [1.0, 1.0] crops nothing. ratio:
    least and greatest width / height of it. train_size: a subset of the n. minival: images held out from them for
    selection. augment: further augmentations by name, in order.
    """

    train: Literal["tiles", "single"] = "tiles"
    n: Annotated[int, Field(ge=10)] = 6000
    draw: Annotated[int, Field(ge=0)] = 0
    root: str | None = None
    scale: tuple[_Share, _Share] = (0.08, 1.0)
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return is_mnist_at(root)

    def __call__(self, place: DeviceContext) -> DataSets:
        folder = find_mnist(self.root)
        digits, labels = read_mnist(folder, "train")
        chosen = draw_digits(labels, self.n, self.draw)
        if self.train == "single":
            chosen = chosen[:, :1]
        parts = downsample(digits[chosen.flatten()][..., None], TILE)[..., 0].view(*chosen.shape, TILE, TILE)
        classes = labels[chosen]
        if self.train == "tiles":
            images, named = lay_out(parts), draw_named(self.n, self.draw)
        else:
            images, named = enlarge(parts[:, 0]), torch.zeros(self.n, dtype=torch.int64)
        train = Images(images[..., None], classes.gather(1, named[:, None])[:, 0], torch.arange(self.n))
        digits, labels = read_mnist(folder, "t10k")
        val = Images(enlarge(downsample(digits[..., None], TILE)[..., 0])[..., None], labels, torch.arange(len(labels)))
        crop = ResizedCrop(size=CANVAS, scale=self.scale, ratio=self.ratio)
        spec = InputSpec((0.13,), (0.31,), crop, False, self.augment)
        names = tuple("0123456789")
        return build_in_memory_sets(
            "digit_tiles", train, val, CLASSES, spec, place, self.train_size, self.minival, names
        )


def draw_digits(labels: Tensor, n: int, draw: int) -> Tensor:
    """(n, 4) int64: indices of four digits of different classes for each image, uniform over the classes and over the
    digits of a class. labels: (m,) int64, 0 to 9, of those there are."""
    classes = torch.rand(n, CLASSES, dtype=torch.float64, generator=stream(draw, "digit_tiles.classes")).argsort(1)
    order, counts = labels.argsort(stable=True), labels.bincount(minlength=CLASSES)
    first, chosen = counts.cumsum(0) - counts, classes[:, :4]
    drawn = torch.rand(n, 4, dtype=torch.float64, generator=stream(draw, "digit_tiles.digits"))
    return order[first[chosen] + (drawn * counts[chosen]).long()]


def draw_named(n: int, draw: int) -> Tensor:
    """(n,) int64, 0 to 3: which of its tiles gives an image its label."""
    return torch.randint(4, (n,), generator=stream(draw, "digit_tiles.named"))


def lay_out(tiles: Tensor) -> Tensor:
    """(n, 4, TILE, TILE) to (n, CANVAS, CANVAS): the first two above, the others below."""
    n = len(tiles)
    return tiles.view(n, 2, 2, TILE, TILE).permute(0, 1, 3, 2, 4).reshape(n, CANVAS, CANVAS)


def enlarge(tiles: Tensor) -> Tensor:
    """(n, TILE, TILE) to (n, CANVAS, CANVAS) uint8, as a training crop onto a tile is."""
    return resize_whole(CANVAS, CANVAS, "bilinear")(tiles[..., None].contiguous())[..., 0]

"""Domain digits: digits in several looks, each image in one of them, for translation between domains.

A domain is a colour of the ink and an angle by which the digit is turned. Which domain a digit stands in is drawn for
each image, so there are no pairs: no digit is seen in two looks. What a translation should keep is known, and is in
`Batch.also` as "content": the digit, 0 to 9. After the multi-domain sets of Choi et al. 2018 (StarGAN, arXiv
1711.09020), whose question this set puts in small; the set is ours.

Angles go from 0° to 90°: a half turn would make a 6 a 9, and leave a 0, a 1 and an 8 as they are.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import uniform
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.subset import combine_strata, sample_stratified
from paribus.data.ops.crop_flip import downsample, pad_images
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop
from paribus.data.trees.mnist_files import find_mnist, is_mnist_at, read_mnist

COLOURS = {  # of the ink: red, green, blue, each a grey level where a digit is whitest
    "red": (255, 60, 60),
    "green": (60, 220, 60),
    "blue": (80, 110, 255),
    "yellow": (240, 220, 40),
    "violet": (220, 70, 230),
    "cyan": (50, 220, 220),
}
ANGLES = {1: (0,), 2: (0, 90), 3: (0, 45, 90), 4: (0, 30, 60, 90)}  # degrees counterclockwise, of so many rotations
_DIGITS = tuple("0123456789")
_CHUNK = 4096  # images made at a time, to save memory
_SKLEARN_TEST = 360  # of 1,797; the set comes without a split of its own


@schema
class DomainDigits:
    """Digits in colour on black; `val` are test digits, each in one drawn domain too. colours · rotations domains, in
    the order of the angles, of each all colours. Inputs lie in −1 to 1. `Batch.also` has "content" and "domain", (n,)
    int64.

    source: mnist, 60,000 to train and 10,000 to test; or sklearn, the 1,437 and 360 of scikit-learn, which need no
    files. label: what targets are: the domain, or the content, for a classifier that tells whether it was kept. size:
    pixels a side; MNIST's 28 are padded to 32 and averaged down, scikit-learn's 8 interpolated. colours: how many inks.
    rotations: how many angles, evenly spaced from 0° to 90°; 1: only 0°. draw: other domains for another number. root:
    the folder that holds MNIST/raw; else PARIBUS_DATA, else ./data. train_size: a subset of the training set,
    stratified by domain and content. val_size: of the test set. minival: images held out from the training set for
    selection. sampling: each image once an epoch, or each target equally often. augment: further augmentations by name,
    in order.
    """

    source: Literal["mnist", "sklearn"] = "mnist"
    label: Literal["domain", "content"] = "domain"
    size: Annotated[int, Field(ge=4, le=32)] = 32
    colours: Annotated[int, Field(ge=1, le=len(COLOURS))] = 4
    rotations: Annotated[int, Field(ge=1, le=4)] = 1
    draw: Annotated[int, Field(ge=0)] = 0
    root: str | None = None
    train_size: Annotated[int, Field(ge=1)] | None = None
    val_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.colours * self.rotations < 2:
            raise ValueError("found one colour and one angle; there have to be two domains or more")

    @property
    def domains(self) -> tuple[str, ...]:
        """Their names, in the order of the targets."""
        inks = tuple(COLOURS)[: self.colours]
        angles = [f" {angle}°" if self.rotations > 1 else "" for angle in ANGLES[self.rotations]]
        return tuple(ink + angle for angle in angles for ink in inks)

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return self.source == "sklearn" or is_mnist_at(root)

    def __call__(self, place: DeviceContext) -> DataSets:
        train, val = (self._dress(*self._read(split), split) for split in ("train", "val"))
        if self.val_size is not None:
            val = val.select(sample_stratified(_strata(val), self.val_size, "domain_digits", key="data.val_size"))
        names = self.domains if self.label == "domain" else _DIGITS
        spec = InputSpec((0.5,) * 3, (0.5,) * 3, PadCrop(pad=0), False, self.augment, 1, self.sampling == "balanced")
        limits = (self.train_size, self.minival)
        return build_in_memory_sets(
            "domain_digits", train, val, len(names), spec, place, *limits, names, strata=_strata(train)
        )

    def _read(self, split: str) -> tuple[Tensor, Tensor]:
        """(n, size, size) uint8 digits, bright on black, and (n,) int64 labels."""
        if self.source == "sklearn":
            digits, labels = read_sklearn(split)
            return resize(digits, self.size), labels
        digits, labels = read_mnist(find_mnist(self.root), {"train": "train", "val": "t10k"}[split])
        padded = pad_images(digits[..., None], 2)
        return (padded if self.size == padded.shape[1] else downsample(padded, self.size))[..., 0], labels

    def _dress(self, digits: Tensor, content: Tensor, split: str) -> Images:
        ids = torch.arange(len(digits))
        domains = draw_domains(ids, len(self.domains), self.draw, split)
        angles = torch.tensor(ANGLES[self.rotations])[domains // self.colours]
        images = paint(turn(digits, angles), domains % self.colours)
        targets = domains if self.label == "domain" else content
        return Images(images, targets, ids, also={"content": content, "domain": domains})


def _strata(images: Images) -> Tensor:
    return combine_strata(images.also["domain"], images.also["content"])


def draw_domains(ids: Tensor, count: int, draw: int, split: str) -> Tensor:
    """(n,) int64: the domain of each image, uniform over `count`, a function of its id alone."""
    return (uniform(draw, f"domain_digits.{split}", 0, ids, 1)[:, 0].double() * count).long()


def turn(digits: Tensor, angles: Tensor) -> Tensor:
    """(n, h, w) uint8 square digits, each turned counterclockwise about the centre, bilinear and black outside. angles:
    (n,) int64, degrees. In whole numbers, so the same on every machine."""
    out = digits.clone()
    for angle in angles.unique().tolist():
        if angle == 0:
            continue
        sources, weights = _find_sources(digits.shape[1], angle)
        for rows in torch.nonzero(angles == angle).flatten().split(_CHUNK):
            pixels = digits[rows].flatten(1).int()
            mixed = torch.full_like(pixels, 2**15)  # a half, to round
            for source, weight in zip(sources, weights, strict=True):
                mixed += pixels[:, source] * weight
            out[rows] = (mixed >> 16).to(torch.uint8).view(len(rows), *digits.shape[1:])
    return out


def _find_sources(side: int, degrees: int) -> tuple[Tensor, Tensor]:
    """(4, side²) int64 and int32: which four pixels make each pixel of a turned image, and their weights in 1/65536."""
    angle, middle = math.radians(degrees), (side - 1) / 2
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) - middle] * 2, indexing="ij")
    at_x = (math.cos(angle) * x - math.sin(angle) * y + middle).flatten()
    at_y = (math.sin(angle) * x + math.cos(angle) * y + middle).flatten()
    # in 1/256 of a pixel, so that weights are whole numbers
    fine_x, fine_y = ((at * 256).round().int() for at in (at_x, at_y))
    left, top, dx, dy = fine_x >> 8, fine_y >> 8, fine_x & 255, fine_y & 255
    sources: list[Tensor] = []
    weights: list[Tensor] = []
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + down, left + across
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        sources.append((row.clamp(0, side - 1) * side + column.clamp(0, side - 1)).long())
        weight = (dy if down else 256 - dy) * (dx if across else 256 - dx)
        weights.append(torch.where(inside, weight, 0))
    return torch.stack(sources), torch.stack(weights)


def paint(digits: Tensor, inks: Tensor) -> Tensor:
    """(n, h, w) grey levels and (n,) colours, by place in COLOURS, to (n, h, w, 3) uint8."""
    palette, levels = torch.tensor(tuple(COLOURS.values())), torch.arange(256)
    shades = ((levels[None, :, None] * palette[:, None] + 127) // 255).to(torch.uint8)  # (colours, 256, 3)
    parts = zip(digits.split(_CHUNK), inks.split(_CHUNK), strict=True)
    return torch.cat([shades[ink[:, None, None], part.int()] for part, ink in parts])


def read_sklearn(split: str) -> tuple[Tensor, Tensor]:
    """(n, 8, 8) uint8 digits and labels of scikit-learn's set. split: train or val, a fixed stratified fifth."""
    from sklearn.datasets import load_digits  # takes a second to import

    raw: Any = load_digits()
    digits = torch.from_numpy(raw.images * 15).round().to(torch.uint8)  # grey levels 0..16 to 0..240
    labels = torch.from_numpy(raw.target).long()
    test = sample_stratified(labels, _SKLEARN_TEST, "digits.test")
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[test] = True
    chosen = held_out if split == "val" else ~held_out
    return digits[chosen], labels[chosen]


def resize(digits: Tensor, size: int) -> Tensor:
    """(n, h, w) uint8 to (n, size, size), bilinear."""
    grown = F.interpolate(digits[:, None].float(), size=(size, size), mode="bilinear", align_corners=False)
    return grown.round().to(torch.uint8)[:, 0]

"""Biased MNIST: digits whose background colour gives the class away in training, and says nothing in evaluation.

Bahng, Chun, Yun, Choo & Oh, "Learning De-biased Representations with Biased Representations", ICML 2020, arXiv
1910.02806, section 4.2. Each class has a colour of its own. In training a digit has its class's colour with the share
`rho`, else one of the other nine; counts are exact for each class. `val` is unbiased (each colour a tenth), the split
`biased` has every digit on its class's colour. The colours are ours, and digits are white where there is any ink.
"""

from collections.abc import Mapping
from dataclasses import replace
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
from paribus.data.loaders.subset import combine_strata, hide_groups
from paribus.data.ops.crop_flip import downsample
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop
from paribus.data.trees.mnist_files import find_mnist, is_mnist_at, read_mnist

_COLOURS = (  # of the classes in order: red, green, blue, each a grey level
    (220, 20, 60),
    (0, 128, 128),
    (240, 170, 0),
    (70, 90, 220),
    (40, 180, 70),
    (200, 60, 200),
    (120, 80, 40),
    (0, 190, 230),
    (150, 150, 0),
    (110, 110, 120),
)


@schema
class BiasedMnist:
    """60,000 training and 10,000 test digits in colour, 10 classes; the unbiased test set is the split `val`, the test
    set in the classes' own colours the split `biased`. `Batch.also` has "bias" and "group", (n,) int64: the colour.

    rho: share of each class's training images in the class's own colour. root: the folder that holds MNIST/raw; else
    PARIBUS_DATA, else ./data. size: average down to this many pixels a side. annotated: share of each class's and
    colour's training images whose "group" is known; it is -1 for the rest ("bias" is always known).
    train_size: a subset of the training set, with colours in proportion. minival: images held out from it for
    selection. sampling: each image once an epoch, or each class equally often. pad: random crop after this many
    pixels of padding. augment: further augmentations by name, in order.
    """

    rho: Annotated[float, Field(ge=0, le=1)] = 0.997
    root: str | None = None
    size: Annotated[int, Field(ge=4, le=28)] = 28
    annotated: Annotated[float, Field(ge=0, le=1)] = 1.0
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    pad: Annotated[int, Field(ge=0, le=14)] = 0
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)

    def is_at(self, root: Path) -> bool:
        """Whether the set's own files lie under this root."""
        return is_mnist_at(root)

    def __call__(self, place: DeviceContext) -> DataSets:
        folder = find_mnist(self.root)
        train = self._colour(*read_mnist(folder, "train"), self.rho, "train")
        digits, labels = read_mnist(folder, "t10k")
        val, biased = self._colour(digits, labels, 0.1, "val"), self._colour(digits, labels, 1.0, "biased")
        strata = combine_strata(train.targets, train.also["bias"])
        groups = hide_groups(train.also["group"], train.targets, self.annotated, "biased_mnist")
        train = replace(train, also={**train.also, "group": groups})
        spec = InputSpec(
            (0.5,) * 3, (0.25,) * 3, PadCrop(pad=self.pad), False, self.augment, 1, self.sampling == "balanced"
        )
        return build_in_memory_sets(
            "biased_mnist",
            train,
            val,
            10,
            spec,
            place,
            self.train_size,
            self.minival,
            tuple("0123456789"),
            further={"biased": biased},
            strata=strata,
        )

    def _colour(self, digits: Tensor, labels: Tensor, rho: float, split: str) -> Images:
        colours = draw_colours(labels, rho, split)
        images = paint(digits, colours)
        if self.size != digits.shape[1]:
            images = downsample(images, self.size)
        return Images(images, labels, torch.arange(len(labels)), also={"bias": colours, "group": colours})


def draw_colours(labels: Tensor, rho: float, split: str) -> Tensor:
    """(n,) int64: the colour of each digit. Of each class round(rho · its size) have its own, the others share the rest
    equally, the first of them one more where that does not divide. labels: (n,) int64, 0 to 9."""
    colours = torch.empty_like(labels)
    for label in range(10):
        members = torch.nonzero(labels == label).flatten()
        order = members[torch.randperm(len(members), generator=stream(0, "biased_mnist", split, label))]
        own = round(rho * len(order))
        others = torch.tensor([k for k in range(10) if k != label])
        colours[order[:own]] = label
        colours[order[own:]] = others[torch.arange(len(order) - own) % 9]
    return colours


def paint(digits: Tensor, colours: Tensor) -> Tensor:
    """(n, h, w) grey levels and (n,) colours to (n, h, w, 3) uint8: white where there is any ink, else the colour."""
    palette = torch.tensor(_COLOURS, dtype=torch.uint8)
    return torch.where(digits[..., None] > 0, torch.tensor(255, dtype=torch.uint8), palette[colours][:, None, None])

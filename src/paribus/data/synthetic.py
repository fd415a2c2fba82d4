"""Synthetic images for tests and timings: each class has its own smooth pattern under noise. Results on them say
nothing about techniques."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets, DeviceContext
from paribus.core.streams import stream
from paribus.data.loaders.epoch_order import Sampling
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.preprocessing import DecodeSquare, FilePreprocessing
from paribus.data.loaders.subset import combine_strata, hide_groups
from paribus.data.ops.input_spec import Augmentation, InputSpec, PadCrop
from paribus.data.trees.decoding import CHANNELS


@schema
class Synthetic:
    """n training and val_n validation images of size×size pixels; the data do not depend on the run's seed.

    classes: how many. channels: of an image. size: pixels a side. n, val_n: images to train and to validate.
    noise: standard deviation of the pixels around their class's pattern, of 255. pad: random crop after this many
    pixels of padding. flip: horizontally, half of the time. augment: further augmentations by name, in order.
    train_size: a stratified subset of the training set. minival: images held out from it for selection.
    sampling: each image once an epoch, or each class equally often. groups: how many groups the images are of, which
    `Batch.also` has as "group" and a tint shows; 0: none. group_share: of a class's images, those of the class's own
    group; the others are spread over the other groups. annotated: share of each class's and group's training images
    whose group is known; it is -1 for the rest.
    """

    classes: Annotated[int, Field(ge=2)] = 10
    channels: Annotated[int, Field(ge=1)] = 3
    size: Annotated[int, Field(ge=1)] = 32
    n: Annotated[int, Field(ge=1)] = 512
    val_n: Annotated[int, Field(ge=1)] = 128
    noise: Annotated[float, Field(ge=0)] = 60.0
    pad: Annotated[int, Field(ge=0)] = 4
    flip: bool = True
    augment: Mapping[str, Augmentation] = Field(default_factory=dict)
    train_size: Annotated[int, Field(ge=1)] | None = None
    minival: Annotated[int, Field(ge=0)] = 0
    sampling: Sampling = "shuffle"
    groups: Annotated[int, Field(ge=0)] = 0
    group_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    annotated: Annotated[float, Field(ge=0, le=1)] = 1.0

    def __call__(self, place: DeviceContext) -> DataSets:
        shape = (self.size, self.size, self.channels)
        coarse = torch.rand(self.classes, self.channels, 3, 3, generator=stream(0, "synthetic.patterns"))
        smooth = F.interpolate(255 * coarse, size=(self.size, self.size), mode="bilinear", align_corners=True)
        patterns = smooth.permute(0, 2, 3, 1)

        def make_images(n: int, split: str) -> Images:
            targets = torch.arange(n) % self.classes
            noise = self.noise * torch.randn(n, *shape, generator=stream(0, "synthetic.noise", split))
            groups = self._draw_groups(targets, split)
            if groups is None:
                return Images((patterns[targets] + noise).clamp(0, 255).to(torch.uint8), targets, torch.arange(n))
            pixels = (patterns[targets] + tints[groups] + noise).clamp(0, 255).to(torch.uint8)
            return Images(pixels, targets, torch.arange(n), also={"group": groups})

        tints = 120 * torch.rand(max(1, self.groups), 1, 1, self.channels, generator=stream(0, "synthetic.tints")) - 60
        train, val, strata = make_images(self.n, "train"), make_images(self.val_n, "val"), None
        if self.groups:
            groups = train.also["group"]
            strata = combine_strata(train.targets, groups)
            train = replace(train, also={"group": hide_groups(groups, train.targets, self.annotated, "synthetic")})
        limits = (self.train_size, self.minival)
        return build_in_memory_sets(
            "synthetic", train, val, self.classes, self._input_spec(), place, *limits, strata=strata
        )

    def _draw_groups(self, targets: torch.Tensor, split: str) -> torch.Tensor | None:
        """(n,) int64: each image's group, or None if there are none."""
        if not self.groups:
            return None
        own, n = targets % self.groups, len(targets)
        draws = torch.rand(2, n, generator=stream(0, "synthetic.groups", split))
        other = (own + 1 + (draws[1] * (self.groups - 1)).long()) % self.groups
        return torch.where(draws[0] < self.group_share, own, other)

    def file_preprocessing(self) -> FilePreprocessing:
        """An image file as a square of the set's size. Raises ConfigError where no file has as many channels."""
        if self.channels not in CHANNELS:
            raise ConfigError(
                f"data.channels: found {self.channels}; an image file has {format_list(map(str, CHANNELS))}"
            )
        decode = DecodeSquare(self.size, self.channels)
        return FilePreprocessing(decode, self.size, self.size, self.channels, self._input_spec())

    def _input_spec(self) -> InputSpec:
        balanced = self.sampling == "balanced"
        moments = ((0.5,) * self.channels, (0.3,) * self.channels)
        return InputSpec(*moments, PadCrop(pad=self.pad), self.flip, self.augment, 1, balanced)

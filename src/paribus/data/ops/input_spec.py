"""How stored pixels become a training batch's inputs: crop, flip, augmentations, normalisation.

Each step is a small frozen object that says what is done; inputs.py does it. Sizes in pixels, boxes as (top, left,
height, width), images (b, h, w, c) uint8.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.data.ops.draws import SampleRandom

_CROP_TRIES = 10

Interpolation = Literal["bilinear", "bicubic"]


@runtime_checkable
class Augmentation(Protocol):
    """uint8 (b, h, w, c) to uint8 (b, h, w, c), each image with its own random numbers, bit-exact on every device.

    name: its key in data.augment, with which the names of its random numbers begin.
    """

    def __call__(self, images: Tensor, draws: SampleRandom, name: str) -> Tensor: ...


@schema
class PadCrop:
    """A window of the image's own size, uniform over the image with `pad` black pixels on every side; as torchvision's
    RandomCrop with padding. 0: no crop."""

    pad: Annotated[int, Field(ge=0)]

    def offsets(self, drawn: Tensor) -> Tensor:
        """(b, 2) numbers in [0, 1) to (b, 2) int64 top and left, 0..2·pad of the padded image."""
        return (drawn * (2 * self.pad + 1)).long()

    def shares(self, draws: SampleRandom, height: int, width: int) -> Tensor:
        """(b, 4) float64 on the draws' device: the windows as `Batch.also["crop"]` has them."""
        corner = self.offsets(draws("crop_and_flip", 3)[:, :2]) - self.pad
        size = torch.tensor((height, width), dtype=torch.float64)
        return _as_shares(corner, torch.tensor((height, width)).expand(len(corner), 2), size.expand(len(corner), 2))


@schema
class ResizedCrop:
    """torchvision's RandomResizedCrop: a box of random area and shape, resized to size×size (Szegedy et al. 2015).

    scale: least and greatest share of the image's area. ratio: least and greatest width / height.
    """

    size: Annotated[int, Field(ge=1)]
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.08, 1.0)
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name}: found [{low}, {high}]; the first must not be greater than the second")

    def boxes(self, draws: SampleRandom, heights: int | Tensor, widths: int | Tensor) -> Tensor:
        """(b, 4) int64 boxes: ten tries for one inside the image, else the largest centred one within the ratio.

        heights, widths: of the images, one for all or (b,) beside the ids. In float64, without a data-dependent branch;
        the boxes are where the ids are.
        """
        drawn = draws.beside_ids("resized_crop", 2 * _CROP_TRIES + 2).double()
        height, width = (
            v if isinstance(v, Tensor) else torch.full((len(drawn),), v, device=drawn.device) for v in (heights, widths)
        )
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        area = (height * width)[:, None] * (
            self.scale[0] + drawn[:, 0 : 2 * _CROP_TRIES : 2] * (self.scale[1] - self.scale[0])
        )
        aspect = torch.exp(low + drawn[:, 1 : 2 * _CROP_TRIES : 2] * (high - low))
        w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
        first = fits.int().argmax(1, keepdim=True)
        whole_h, whole_w = self._largest_centre_size(height.double(), width.double())
        fitted = fits.any(1)
        h = torch.where(fitted, h.gather(1, first)[:, 0], whole_h)
        w = torch.where(fitted, w.gather(1, first)[:, 0], whole_w)
        room = torch.stack((height - h, width - w), 1)
        corner = torch.where(fitted[:, None], drawn[:, 2 * _CROP_TRIES :] * (room + 1), room / 2).floor()
        return torch.cat((corner, h[:, None], w[:, None]), 1).long()

    def shares(self, draws: SampleRandom, heights: int | Tensor, widths: int | Tensor) -> Tensor:
        """(b, 4) float64, where the ids are: the boxes of `boxes` as `Batch.also["crop"]` has them."""
        boxes = self.boxes(draws, heights, widths)
        sizes = [
            side.double() if isinstance(side, Tensor) else torch.full((len(boxes),), side, dtype=torch.float64)
            for side in (heights, widths)
        ]
        return _as_shares(boxes[:, :2], boxes[:, 2:], torch.stack(sizes, 1).to(boxes.device))

    def _largest_centre_size(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        least, most = self.ratio
        shape = width / height
        h = torch.where(shape < least, (width / least).round(), height)
        w = torch.where(shape > most, (height * most).round(), width)
        return h, w


def _as_shares(corner: Tensor, extent: Tensor, size: Tensor) -> Tensor:
    """(b, 2) each, down and across, in pixels: top left corner, extent and the image's size. To (b, 4) float64: x1, y1,
    x2, y2 as shares of its width and height."""
    size, extent = size.to(corner.device), extent.to(corner.device)
    first, last = corner / size, (corner + extent) / size
    return torch.cat((first.flip(1), last.flip(1)), 1)


@dataclass(frozen=True)
class InputSpec:
    """How pixels become inputs: mean and std of a channel in units of the 0–1 range, and the training augmentation.

    flip: horizontal, half of the time. augment: by name, in order, after crop and flip and before normalisation.
    repeats: how many times in a row a sample appears in the order (loaders/epoch_order.py). balanced: whether classes
    come equally often, not samples.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: PadCrop | ResizedCrop
    flip: bool
    augment: Mapping[str, Augmentation] = field(default_factory=dict)
    repeats: int = 1
    balanced: bool = False

    @property
    def channels(self) -> int:
        return len(self.mean)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the inputs made from stored images of this size."""
        return (self.crop.size, self.crop.size) if isinstance(self.crop, ResizedCrop) else (height, width)

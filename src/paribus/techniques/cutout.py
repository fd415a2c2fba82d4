"""Cutout: a square of each training image is erased; its label stays.

DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, arXiv 1708.04552.

    x̃ = M ⊙ x        ỹ = y

M is 0 inside a square whose centre is uniform over the pixels, and 1 elsewhere; the square is clipped at the border.

What it changes   pixels of a training batch; nothing else.
Hyperparameters   length = 16 pixels on CIFAR-10, the default of the authors' code; they use 8 on CIFAR-100.
As the authors    one square a sample, always; erased pixels are 0 after normalisation, the mean of the training set;
                  the square reaches length // 2 pixels to either side of its centre, so an odd length loses one.
Deviations        random numbers come from a stream that belongs to the sample (its index and the epoch) instead of
                  NumPy's global generator in a worker process, so seeds are not comparable with theirs. The first
                  commit of the authors' code took length for half a side; this is the paper's full side.
Cost              one select of the batch.
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.mixing import box_mask
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import uniform


def squares(y: Tensor, x: Tensor, length: int, height: int, width: int) -> Tensor:
    """The authors' squares around centres y and x, (n,) int64 each, clipped to the image: (n, 4) boxes, top, left,
    bottom, right; bottom and right are outside."""
    half = length // 2
    top, bottom = (y - half).clamp(min=0), (y + half).clamp(max=height)
    left, right = (x - half).clamp(min=0), (x + half).clamp(max=width)
    return torch.stack((top, left, bottom, right), 1)


def apply(inputs: Tensor, box: Tensor) -> Tensor:
    """The equation above. inputs (n, c, h, w) of any dtype, box (n, 4). Returns a new tensor of the same kind. No
    random number, no data-dependent branch: it compiles."""
    return torch.where(box_mask(box, *inputs.shape[-2:]), 0, inputs)  # masked_fill would lose channels_last


def cutout(inputs: Tensor, length: int = 16, generator: torch.Generator | None = None) -> Tensor:
    """Cutout of one batch, for any training loop; targets stay as they are.

    inputs: (n, c, h, w), normalised, any device; not changed. length: the side in pixels, >= 0. generator: a CPU
    generator; torch's global one if None. Returns a new tensor. Raises ValueError for anything else.

    >>> cutout(torch.ones(4, 3, 8, 8), length=4).shape
    torch.Size([4, 3, 8, 8])
    """
    if inputs.ndim != 4:
        raise ValueError(f"Cutout needs inputs of shape (n, c, h, w), got {tuple(inputs.shape)}")
    if length < 0:
        raise ValueError(f"Cutout needs length >= 0, got length={length}")
    n, _, height, width = inputs.shape
    y, x = (torch.randint(size, (n,), generator=generator).to(inputs.device) for size in (height, width))
    return apply(inputs, squares(y, x, length, height, width))


@schema
class Cutout:
    """The transform. length: side of the square in pixels; below 2 there is none, which is exactly the baseline."""

    length: Annotated[int, Field(ge=0)] = 16

    def check(self, spec: Spec) -> None:
        """Refuse a square that covers the whole image wherever its centre is: nothing would be left to learn from."""
        side = max(spec.height, spec.width)
        if self.length // 2 >= side:
            raise ConfigError(
                f"transforms.cutout.length: found {self.length}; on images of {spec.height}×{spec.width} pixels every "
                f"square covers the whole image, choose less than {2 * side}"
            )

    def draw(self, at: Progress, ids: Tensor, height: int, width: int) -> Tensor:
        """The squares of these samples in this epoch, (n, 4), on the device of their ids; the same in any batch."""
        drawn = uniform(at.seed, "cutout", at.epoch, ids, 2)
        y, x = ((drawn[:, i] * size).long() for i, size in enumerate((height, width)))
        return squares(y, x, self.length, height, width)

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        if self.length < 2:
            return batch
        return batch.apply(lambda part: self.cut(part, at))

    def cut(self, part: Batch, at: Progress) -> Batch:
        """Any part of a global batch, with a square erased from each image."""
        box = self.draw(at, part.ids, *part.inputs.shape[-2:])
        return replace(part, inputs=apply(part.inputs, box))

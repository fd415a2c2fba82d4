"""Random Erasing: a rectangle of some training images is filled with noise; the label stays.

Zhong, Zheng, Kang, Li & Yang, "Random Erasing Data Augmentation", AAAI 2020, arXiv 1708.04896, algorithm 1.

    S_e = S · U(s_l, s_h)        r_e = exp U(log r_1, log r_2)        H_e = √(S_e r_e)        W_e = √(S_e / r_e)

with probability p, at a uniform place where it fits; a rectangle that does not fit is drawn again.

What it changes   pixels of a training batch; nothing else.
Hyperparameters   prob = 0.25, area = 0.02–1/3, ratio = 0.3–3.33, mode = pixel: what DeiT and PiT train with, timm's
                  defaults but for prob. The paper has prob = 0.5 and area = 0.02–0.4.
As the authors    algorithm 1, with r_e uniform in its logarithm, as the code of timm and torchvision has it; there,
                  and here, at most ten rectangles are tried, sides are rounded and are less than the image's.
Deviations        pixels become standard normal noise (mode pixel) or 0 (mode const) after normalisation, as timm's,
                  where the paper takes uniform grey levels before it. Random numbers come from a stream that belongs to
                  the sample (its index and the epoch) instead of global generators, so seeds are not comparable.
Cost              on a CPU one random number per erased pixel and a copy of the batch; on a GPU, where finding the
                  erased pixels would mean waiting for the device, one per pixel.
"""

import functools
import math
from dataclasses import replace
from statistics import NormalDist
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.mixing import box_mask
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import key64, uniform, uniform_at

_TRIES = 10
Positive = Annotated[float, Field(gt=0)]


def rectangles(drawn: Tensor, area: tuple[float, float], ratio: tuple[float, float], height: int, width: int) -> Tensor:
    """The first of ten rectangles that fits, (n, 4) int64: top, left, bottom, right; the last two are outside. All 0
    where none fits.

    drawn: (n, 22) numbers in [0, 1): share of the area and ratio (height / width) of each try, then the place.
    """
    u = drawn.double()
    size = height * width * (area[0] + u[:, 0 : 2 * _TRIES : 2] * (area[1] - area[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + u[:, 1 : 2 * _TRIES : 2] * (high - low))
    h, w = (size * shape).sqrt().round(), (size / shape).sqrt().round()
    fits = (h < height) & (w < width)
    first = fits.int().argmax(1, keepdim=True)
    h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
    top, left = (u[:, -2] * (height - h + 1)).floor(), (u[:, -1] * (width - w + 1)).floor()
    return torch.stack((top, left, top + h, left + w), 1).long() * fits.any(1, keepdim=True)


@functools.cache
def _quantiles(device: torch.device) -> Tensor:
    """The standard normal distribution as 2^14 values of equal probability, to ±4.0, scaled to variance 1."""
    n = 2**14
    # a table, so that the bits are the same whatever a device makes of erfinv
    values = torch.tensor([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)], dtype=torch.float64)
    return (values / values.square().mean().sqrt()).float().to(device)


def noise(key: int, ids: Tensor, places: Tensor) -> Tensor:
    """Standard normal numbers, float32: those of these positions, counted over channels, rows and columns, of these
    samples. ids, places: int64, broadcast together. The same bits on every device."""
    quantiles = _quantiles(ids.device)
    return quantiles[(uniform_at(key, ids, places) * len(quantiles)).long()]


def apply(inputs: Tensor, erased: Tensor, key: int | None, ids: Tensor) -> Tensor:
    """inputs (n, c, h, w) with the pixels of `erased`, (n, 1, h, w) bool, filled: with the `noise` of this key, or with
    0 where it is None. Returns a new tensor of the same kind."""
    if key is None:
        return torch.where(erased, 0, inputs)  # masked_fill would lose channels_last
    _, channels, height, width = inputs.shape
    if not inputs.is_cpu:
        places = torch.arange(channels * height * width, device=inputs.device).view(1, channels, height, width)
        return torch.where(erased, noise(key, ids[:, None, None, None], places).to(inputs.dtype), inputs)
    out = inputs.clone()
    sample, _, y, x = (part[:, None] for part in erased.nonzero().unbind(1))
    channel = torch.arange(channels)
    places = (channel * height + y) * width + x
    out[sample, channel, y, x] = noise(key, ids[sample], places).to(inputs.dtype)
    return out


@schema
class RandomErasing:
    """The transform. prob: share of the images; 0 is exactly the baseline. area: least and greatest share of the image.
    ratio: least and greatest height / width. mode: pixel fills with normal noise, const with 0."""

    prob: Annotated[float, Field(ge=0, le=1)] = 0.25
    area: tuple[Positive, Annotated[float, Field(gt=0, lt=1)]] = (0.02, 1 / 3)
    ratio: tuple[Positive, Positive] = (0.3, 1 / 0.3)
    mode: Literal["pixel", "const"] = "pixel"

    def check(self, spec: Spec) -> None:
        """Refuse ranges whose bounds are swapped."""
        for name, (low, high) in (("area", self.area), ("ratio", self.ratio)):
            if low > high:
                raise ConfigError(f"transforms.erasing.{name}: found [{low}, {high}]; the first must not be greater")

    def draw(self, at: Progress, ids: Tensor, height: int, width: int) -> Tensor:
        """The rectangles of these samples in this epoch, (n, 4), empty for those left alone; the same in any batch."""
        drawn = uniform(at.seed, "erasing", at.epoch, ids, 2 * _TRIES + 3)
        chosen = drawn[:, :1] < self.prob
        return rectangles(drawn[:, 1:], self.area, self.ratio, height, width) * chosen

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        return batch.apply(lambda part: self.erase(part, at)) if self.prob else batch

    def erase(self, part: Batch, at: Progress) -> Batch:
        """Any part of a global batch, with a rectangle erased from some images."""
        height, width = part.inputs.shape[-2:]
        erased = box_mask(self.draw(at, part.ids, height, width), height, width)
        key = key64(at.seed, "erasing.noise", at.epoch) if self.mode == "pixel" else None
        return replace(part, inputs=apply(part.inputs, erased, key, part.ids))

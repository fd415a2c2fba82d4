"""Corrupts batches of images: which functions there are, and how they are called."""

import math

import torch
from torch import Tensor

from paribus.evaluators.corruption_kinds import blur, digital, noise, weather
from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import quantise
from paribus.evaluators.corruption_kinds.parameters import choose_parameters

# the paper's fifteen but frost, in its order
_OF_THE_PAPER = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
_FURTHER = {
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "saturate": digital.saturate,
}
PAPER_KINDS, FURTHER_KINDS = tuple(_OF_THE_PAPER), tuple(_FURTHER)
LEFT_OUT = {
    "frost": "it needs photographs of frost, which are not shipped",
    "spatter": "it needs OpenCV's edges and distances",
}
# at once, whatever the batch: what is computed then stays in the caches, and at 224 pixels memory small
_VALUES = 2**19


def corrupt(kind: str, severity: int, pixels: Tensor, ids: Tensor, seed: int) -> Tensor:
    """(n, c, h, w) uint8 of the same shape, c 1 or 3. ids: (n,) int64, of the samples. Each image's result depends on
    its pixels, its id and the seed alone."""
    at_once = max(1, _VALUES // math.prod(pixels.shape[1:]))
    parts = zip(pixels.split(at_once), ids.split(at_once), strict=True)
    return torch.cat([quantise(change(kind, severity, part.double() / 255, of, seed)) for part, of in parts])


def change(kind: str, severity: int, images: Tensor, ids: Tensor, seed: int) -> Tensor:
    """The same before it is cut to 0–1 and to 8 bits. images: (n, c, h, w) float64, multiples of 1/255."""
    parameters = choose_parameters(kind, severity, min(images.shape[2:]))
    return (_OF_THE_PAPER | _FURTHER)[kind](images, Draws(seed, kind, severity, ids), *parameters)

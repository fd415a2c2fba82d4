"""Corrupts batches of images: which functions there are, and how they are called."""

import math

import torch
from torch import Tensor

from paribus.evaluators.corruption_kinds import blur, digital, noise, weather
from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import quantise
from paribus.evaluators.corruption_kinds.parameters import choose_parameters

# the paper's fifteen but frost, in its order
PAPER_KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
FURTHER_KINDS = ("speckle_noise", "gaussian_blur", "saturate")
LEFT_OUT = {
    "frost": "it needs photographs of frost, which are not here",
    "spatter": "it needs OpenCV's edges and distances",
}
_FUNCTIONS = {
    name: next(getattr(module, name) for module in (noise, blur, weather, digital) if hasattr(module, name))
    for name in PAPER_KINDS + FURTHER_KINDS
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
    return _FUNCTIONS[kind](images, Draws(seed, kind, severity, ids), *parameters)

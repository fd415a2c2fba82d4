"""Colour and affine operations by Pillow and torchvision, one image at a time, by the names and arguments by which the
kernels take them (native.OPERATION_CODES); and how many images of a kernel differ from theirs."""

from collections.abc import Callable

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from paribus.core.streams import stream
from paribus.data.ops.native import OPERATION_CODES

ENHANCED = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}
AFFINE = ([0.9, 0.3, -4.3, -0.3, 0.97, 5.1], [1.0, 0.0, 7.2, 0.0, 1.0, -3.5], [1.0, -0.27, 0.0, 0.0, 1.0, 0.0])
ARGUMENTS: dict[str, tuple[list[float], ...]] = {
    **{name: ([0.1], [0.73], [1.9]) for name in ENHANCED},
    "hue": ([-33.0], [0.0], [90.0]),
    "posterize": ([1.0], [4.0], [7.0]),
    "solarize": ([0.0], [77.0], [256.0]),
    "solarize_add": ([0.0], [60.0], [110.0]),
    "affine": AFFINE,
}
FILL = (124, 116, 104)


def change(image: Image.Image, name: str, argument: list[float], bicubic: bool) -> Image.Image:
    first = argument[0]
    if name in ENHANCED:
        return ENHANCED[name](image).enhance(first)
    if name == "hue":  # torchvision takes turns and cuts them to 255ths
        return F.adjust_hue(image, (first + (0.5 if first > 0 else -0.5 if first else 0.0)) / 255)
    if name == "posterize":
        return ImageOps.posterize(image, int(first))
    if name == "solarize":
        return ImageOps.solarize(image, int(first))
    if name == "solarize_add":
        return image.point([i if i >= 128 else min(255, i + int(first)) for i in range(256)] * len(image.getbands()))
    if name == "affine":
        how = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
        fill = FILL if image.mode == "RGB" else FILL[0]
        return image.transform(image.size, Image.Transform.AFFINE, argument, how, fillcolor=fill)
    changes = {"autocontrast": ImageOps.autocontrast, "equalize": ImageOps.equalize, "invert": ImageOps.invert}
    return changes[name](image) if name != "none" else image


def images(n: int, channels: int, height: int = 23, width: int = 29) -> Tensor:
    """Noise, the same smoothed, one level, three levels; more than 512 pixels each, else equalize rounds nothing."""
    made = torch.randint(0, 256, (n, channels, height, width), generator=stream(0, "test.operations")).float()
    made[::2] = torch.nn.functional.avg_pool2d(made[::2], 5, 1, 2, count_include_pad=False) * 1.4 - 40
    if n > 6:
        made[5], made[6] = 77, (made[6] / 3).floor() % 3 * 90
    return made.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def count_differing(
    apply_operations: Callable[..., Tensor], programs: list[list[str]], channels: int = 3, bicubic: bool = True
) -> int:
    """Images, of all, that are not Pillow's after the operations of their program, each with every argument above."""
    if channels == 1:  # an image of one channel has no colour
        programs = [p for p in programs if not {"saturation", "hue"} & set(p)]
    cases = [[(name, (ARGUMENTS.get(name) or ([0.0],) * 3)[i]) for name in p] for p in programs for i in range(3)]
    batch = images(len(cases), channels)
    codes = torch.tensor([[OPERATION_CODES[name] for name, _ in case] for case in cases])
    numbers = torch.tensor([[[*x, *[0.0] * (6 - len(x))] for _, x in case] for case in cases], dtype=torch.float64)
    got = apply_operations(batch, codes, numbers, FILL[:channels], bicubic)
    differing = 0
    for before, after, case in zip(batch, got, cases, strict=True):
        image = Image.fromarray(before.numpy() if channels == 3 else before[..., 0].numpy())
        for name, argument in case:
            image = change(image, name, argument, bicubic)
        differing += not np.array_equal(np.asarray(image).reshape(after.shape), after.numpy())
    return differing

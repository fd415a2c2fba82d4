"""Resizing is Pillow's, bit for bit: the tensor operations and the kernel, on images of every size and any box."""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.native_kernels import mutant, needs_a_compiler
from paribus.core.streams import stream
from paribus.data.ops import inputs
from paribus.data.ops import resize as resample
from paribus.data.ops.input_spec import Interpolation

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
NEW_ORDER = int(PIL.__version__.split(".")[0]) >= 13
Case = tuple[Tensor, Tensor, tuple[int, int]]


def cases(n: int, largest: int) -> list[Case]:
    """Images, a box in each, and a size for the result. Every other image is black and white: filters overshoot."""
    generator = stream(0, "test.resample")
    made: list[Case] = []
    for i in range(n):
        height, width, *size = torch.randint(1, largest, (4,), generator=generator).tolist()
        images = torch.randint(0, 256, (3, height, width, 3), generator=generator).to(torch.uint8)
        extent = (torch.rand(3, 2, generator=generator) * torch.tensor([height, width])).long() + 1
        corner = (torch.rand(3, 2, generator=generator) * (torch.tensor([height, width]) - extent + 1)).long()
        images = (images > 127).to(torch.uint8) * 255 if i % 2 else images
        made.append((images, torch.cat((corner, extent), 1), (size[0], size[1])))
    return made


def by_pillow(image: Tensor, box: Tensor, size: tuple[int, int], filter: Interpolation) -> np.ndarray:
    top, left, height, width = box.tolist()
    cropped = Image.fromarray(image.numpy()).crop((left, top, left + width, top + height))
    if not NEW_ORDER and height - size[0] > 2 * max(width - size[1], 0):
        cropped = cropped.resize((width, size[0]), FILTERS[filter])
    return np.asarray(cropped.resize(size[::-1], FILTERS[filter]))


def differing(resize, made: list[Case], filter: Interpolation) -> int:
    """Images, of all, that are not Pillow's."""
    count = 0
    for images, boxes, size in made:
        got = resize(images, torch.arange(len(images)), boxes, size, filter).numpy()
        wanted = [by_pillow(image, box, size, filter) for image, box in zip(images, boxes, strict=True)]
        count += sum(not np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))
    return count


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("resize", [resample.resized_crop, inputs.resized_crop], ids=["tensors", "kernel"])
def test_a_box_of_an_image_resized_is_pillows(resize, filter: Interpolation) -> None:
    assert differing(resize, cases(60, 90), filter) == 0


def test_each_order_of_the_passes_is_met() -> None:
    first = [bool(resample.vertical_first(*boxes.unbind(1)[2:], size).any()) for _, boxes, size in cases(60, 90)]
    assert 5 < sum(first) < 55


_taps = resample.taps


def _nudged(length: Tensor, size: int, longest: int, filter: Interpolation) -> tuple[Tensor, Tensor]:
    first, weights = _taps(length, size, longest, filter)
    return first, weights + (1 << 8) * (torch.arange(weights.shape[2]) == 0).int()  # one part in 16,384 of a weight


WRONG = {
    "a weight is rounded to fewer bits": ("taps", _nudged),
    "always across first": ("vertical_first", lambda height, width, size: torch.zeros_like(height, dtype=torch.bool)),
    "always down first": ("vertical_first", lambda height, width, size: torch.ones_like(height, dtype=torch.bool)),
    "rounded down": ("BITS", 21),
    "bicubic with another slope": ("_FILTERS", {**resample._FILTERS, "bicubic": resample._FILTERS["bilinear"]}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_negative_control_another_arithmetic_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, *WRONG[wrong])
    assert differing(resample.resized_crop, cases(60, 90), "bicubic") > 0


@needs_a_compiler
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(weight < 0 ? -0.5 : 0.5) + weight", "weight"),
        ("ints sum = (ints){0} + (1 << (BITS - 1));", "ints sum = (ints){0};"),
        ("height - job->out_height > 2 * spared", "height - job->out_height > 3 * spared"),
        ("(1.5 * x - 2.5) * x * x + 1", "(1.25 * x - 2.25) * x * x + 1"),
    ],
)
def test_negative_control_a_mutant_of_the_kernel_is_noticed(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    with mutant("_SOURCE", old, new, monkeypatch, tmp_path):
        assert differing(inputs.resized_crop, cases(60, 90), "bicubic") > 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_resizes_to_the_same_bits() -> None:
    for images, boxes, size in cases(20, 90):
        rows = torch.arange(len(images))
        there = resample.resized_crop(images.cuda(), rows.cuda(), boxes.cuda(), size, "bicubic")
        assert torch.equal(there.cpu(), resample.resized_crop(images, rows, boxes, size, "bicubic"))

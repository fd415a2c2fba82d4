"""Batched augmentation against torchvision's operations on one image at a time."""

import pytest
import torch
import torch.nn.functional as F

from paribus.core.protocols import DeviceContext
from paribus.core.streams import stream, uniform
from paribus.data.ops import inputs as module
from paribus.data.ops.crop_flip import downsample, normalize
from paribus.data.ops.draws import SampleRandom
from paribus.data.ops.input_spec import InputSpec, PadCrop
from paribus.data.ops.inputs import InputTransform


def images(n: int = 20, size: int = 12, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, size, size, channels), generator=stream(0, "images")).to(torch.uint8)


def crop_and_flip(pixels: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, pad: int, flip: bool) -> torch.Tensor:
    """What a look that changes no grey level makes of images: (b, h, w, c) whole numbers."""
    channels = pixels.shape[3]
    look = InputSpec((0.0,) * channels, (1 / 255,) * channels, PadCrop(pad=pad), flip)
    made = InputTransform(look, DeviceContext(torch.device("cpu"), torch.float64)).transform_train(
        pixels, rows, SampleRandom(1, 2, ids)
    )
    return made.round().to(torch.uint8).permute(0, 2, 3, 1)


def agrees_with_one_at_a_time(pad: int, flip: bool) -> bool:
    pixels, rows = images(), torch.tensor([3, 3, 0, 19, 7])
    ids = rows + 1000
    got = crop_and_flip(pixels, rows, ids, pad, flip)
    drawn = uniform(1, "augment.crop_and_flip", 2, ids, 3)
    for i, row in enumerate(rows.tolist()):
        one = F.pad(pixels[row].permute(2, 0, 1), (pad, pad, pad, pad))
        top, left = (int(u * (2 * pad + 1)) for u in drawn[i, :2].tolist())
        one = one[:, top : top + 12, left : left + 12]
        one = one.flip(2) if flip and drawn[i, 2] < 0.5 else one
        if not torch.equal(got[i], one.permute(1, 2, 0)):
            return False
    return True


@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_is_pad_crop_flip_of_each_image(pad: int, flip: bool) -> None:
    assert agrees_with_one_at_a_time(pad, flip)


def test_negative_control_a_crop_with_rows_and_columns_swapped_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = module.crop
    monkeypatch.setattr(module, "crop", lambda x, rows, top, left, h, w: crop(x, rows, left, top, h, w))
    assert not agrees_with_one_at_a_time(4, False)


def test_every_offset_is_as_likely_as_any_other() -> None:
    # a single white pixel in the middle of a black image tells the offset
    pixel = torch.zeros(1, 9, 9, 1, dtype=torch.uint8)
    pixel[0, 4, 4] = 255
    n = 81 * 500
    rows, ids = torch.zeros(n, dtype=torch.long), torch.arange(n)
    out = crop_and_flip(pixel, rows, ids, 4, False)
    counts = (out > 0).sum(0).flatten().double()
    assert counts.sum() == n
    assert float(((counts - 500) ** 2 / 500).sum()) < 80 + 5 * 160**0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_is_torchvisions(layout: torch.memory_format) -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    pixels = images()
    got = normalize(pixels, mean, std, layout)
    want = (pixels.permute(0, 3, 1, 2).float() / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(got, want, atol=2e-6)
    assert got.is_contiguous(memory_format=layout)


def test_downsampling_averages_areas() -> None:
    pixels = images(size=32)
    want = pixels.double().unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4)).round().to(torch.uint8)
    assert (downsample(pixels, 16).int() - want.int()).abs().max() <= 1  # halves round either way in float32
    assert torch.equal(downsample(pixels, 32), pixels)

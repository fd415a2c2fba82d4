"""Operations on grey levels and ColorJitter against Pillow and torchvision, image by image: equal to the bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from helpers.native_kernels import both_ways, mutant, needs_a_compiler
from paribus.core.streams import stream
from paribus.data import colour
from paribus.data.colour import ColorJitter
from paribus.data.ops import color, native
from paribus.data.ops.draws import SampleRandom


def images(channels: int = 3, n: int = 24) -> Tensor:
    """Noise, smooth ramps, few levels, one level, greys: where equalize and autocontrast have their special cases."""
    generator = stream(0, "test.colour")
    made = torch.randint(0, 256, (n, 17, 23, channels), generator=generator)
    ramp = torch.arange(17)[:, None, None] * 9 + torch.arange(23)[None, :, None] * 4 + torch.arange(channels)
    made[0], made[1], made[2] = 77, ramp, made[2] % 3 * 90
    made[3] = made[3, :, :, :1]
    made[4:10] = (made[4:10] * 0.3 + 60).long()
    return made.to(torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.numpy() if image.shape[2] == 3 else image[:, :, 0].numpy())


def array(image: Image.Image, channels: int) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, channels)


def farthest(got: Tensor, one_by_one, channels: int = 3) -> int:
    """The greatest difference in grey levels from Pillow's images."""
    wanted = np.stack([array(one_by_one(i), channels) for i in range(len(got))])
    return int(np.abs(got.numpy().astype(int) - wanted).max())


ENHANCED = {
    "brightness": (color.brightness, ImageEnhance.Brightness),
    "contrast": (color.contrast, ImageEnhance.Contrast),
    "saturation": (color.saturation, ImageEnhance.Color),
    "sharpness": (color.sharpness, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("name", ENHANCED)
@pytest.mark.parametrize("channels", [1, 3])
def test_enhancements_are_pillows(name: str, channels: int) -> None:
    ours, theirs = ENHANCED[name]
    batch, factors = images(channels), torch.linspace(0, 2.2, 24)
    if name != "saturation" or channels == 3:
        got = ours(batch, factors)
        assert farthest(got, lambda i: theirs(pillow(batch[i])).enhance(float(factors[i])), channels) == 0


def test_hue_is_torchvisions() -> None:
    batch, turns = images(), torch.linspace(-0.5, 0.5, 24)
    assert farthest(color.hue(batch, turns), lambda i: F.adjust_hue(pillow(batch[i]), float(turns[i]))) == 0


@both_ways
def test_every_colour_survives_hsv_as_in_pillow(way: None) -> None:
    levels = torch.arange(0, 256, 5).to(torch.uint8)
    cube = torch.cartesian_prod(levels, levels, levels).view(1, 52, -1, 3)
    if native.has_color_kernel(cube):
        shift = torch.nn.functional.pad(torch.full((1, 1, 1), 33.0), (0, 5))  # trunc(255 · 0.13)
        got = native.apply_operations(cube, torch.tensor([[native.OPERATION_CODES["hue"]]]), shift)
    else:
        got = color.hue(cube, torch.tensor([0.13]))
    assert farthest(got, lambda _: F.adjust_hue(pillow(cube[0]), 0.13)) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_tables_are_pillows(channels: int) -> None:
    batch = images(channels)
    counts = color.histograms(batch)
    for tables, theirs in (
        (color.autocontrast_tables, ImageOps.autocontrast),
        (color.equalize_tables, ImageOps.equalize),
    ):
        assert (
            farthest(color.apply_tables(batch, tables(counts)), lambda i, f=theirs: f(pillow(batch[i])), channels) == 0
        )


JITTER = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def jittered(rule: ColorJitter, draws: SampleRandom, batch: Tensor, i: int) -> Image.Image:
    """torchvision's forward, with our factors and order."""
    factors, order = (part[i].tolist() for part in rule.sample_parameters(draws, "jitter"))
    image = pillow(batch[i])
    for which in order:
        strength = (rule.brightness, rule.contrast, rule.saturation, rule.hue)[which]
        change = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)[which]
        image = change(image, factors[which]) if strength else image
    return image


@both_ways
@pytest.mark.parametrize("rule", [JITTER, ColorJitter(brightness=0.4, contrast=1.5, saturation=0.2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_with_the_same_factors(way: None, rule: ColorJitter, channels: int) -> None:
    batch, draws = images(channels), SampleRandom(3, 1, torch.arange(24) + 50)
    got = rule(batch, draws, "jitter")
    assert farthest(got, lambda i: jittered(rule, draws, batch, i), channels) == 0


def test_factors_and_orders_are_torchvisions_rule() -> None:
    factors, order = JITTER.sample_parameters(SampleRandom(0, 0, torch.arange(20_000)), "jitter")
    assert factors.amin(0).tolist() == pytest.approx([0.6, 0.6, 0.6, -0.1], abs=1e-3)
    assert factors.amax(0).tolist() == pytest.approx([1.4, 1.4, 1.4, 0.1], abs=1e-3)
    assert factors.mean(0).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=0.01)
    assert ColorJitter(contrast=3.0).sample_parameters(SampleRandom(0, 0, torch.arange(999)), "x")[0][:, 1].min() >= 0
    orders = (order * torch.tensor([64, 16, 4, 1])).sum(1).bincount()
    orders = orders[orders > 0]
    assert len(orders) == 24
    assert float(((orders - 20_000 / 24) ** 2 / (20_000 / 24)).sum()) < 23 + 5 * 46**0.5


_grey, _blended = color.grey, color.blend
WRONG = {
    "grey as a mean": ("grey", lambda x: x.float().mean(3, keepdim=True).to(torch.uint8)),
    "blend rounded": (
        "blend",
        lambda other, x, f: (other + f.view(-1, 1, 1, 1) * (x.float() - other)).round().clamp(0, 255).to(torch.uint8),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_negative_control_other_arithmetic_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, draws = images(), SampleRandom(3, 1, torch.arange(24) + 50)
    monkeypatch.setattr(native, "has_color_kernel", lambda images: False)
    monkeypatch.setattr(color, *WRONG[wrong])
    assert farthest(JITTER(batch, draws, "jitter"), lambda i: jittered(JITTER, draws, batch, i)) > 0


@needs_a_compiler
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+ 0x8000) >> 16", ") >> 16"),
        ("(2 * sum + pixels) / (2 * pixels)", "sum / pixels"),
        ("hue * 6.0 / 255.0", "hue * 6.0 / 256.0"),
        ("floor((double)x + 0.5)", "floor((double)x)"),
    ],
)
def test_negative_control_a_mutant_of_the_kernel_is_noticed(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batch, draws = images(), SampleRandom(3, 1, torch.arange(24) + 50)
    with mutant("_COLOR_SOURCE", old, new, monkeypatch, tmp_path):
        assert farthest(JITTER(batch, draws, "jitter"), lambda i: jittered(JITTER, draws, batch, i)) > 0


@both_ways
def test_negative_control_one_order_for_all_is_noticed(way: None, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, draws = images(), SampleRandom(3, 1, torch.arange(24) + 50)
    wanted = [array(jittered(JITTER, draws, batch, i), 3) for i in range(24)]
    drawn = ColorJitter.sample_parameters
    monkeypatch.setattr(
        colour.ColorJitter, "sample_parameters", lambda *args: (drawn(*args)[0], drawn(*args)[1].sort(1).values)
    )
    got = JITTER(batch, draws, "jitter").numpy()
    assert any(not np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


@both_ways
def test_an_image_is_changed_alike_in_any_batch(way: None) -> None:
    batch, ids = images(), torch.arange(24) + 50
    whole = JITTER(batch, SampleRandom(3, 1, ids), "jitter")
    pairs = zip(batch.split(7), ids.split(7), strict=True)
    parts = [JITTER(part, SampleRandom(3, 1, some), "jitter") for part, some in pairs]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(JITTER(batch, SampleRandom(3, 1, ids), "another name"), whole)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_changes_colours_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, ids, cuda = images(), torch.arange(24), torch.device("cuda")
    wanted = JITTER(batch, SampleRandom(0, 0, ids), "jitter")
    for draws in (SampleRandom(0, 0, ids, device=cuda), SampleRandom(0, 0, ids.cuda())):
        assert torch.equal(JITTER(batch.cuda(), draws, "jitter").cpu(), wanted)
        with monkeypatch.context() as patch:
            patch.setattr(colour, "choose_kernel", lambda images: None)
            assert torch.equal(JITTER(batch.cuda(), draws, "jitter").cpu(), wanted)

"""RandAugment against timm's operations on Pillow images, one by one, with the same choice, magnitude and sign."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm
from torch import Tensor

from helpers.native_kernels import both_ways, mutant, needs_a_compiler
from paribus.core.streams import stream
from paribus.data import randaugment
from paribus.data.ops import affine, native
from paribus.data.ops.draws import SampleRandom
from paribus.data.randaugment import OPERATIONS, RandAugment

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
N = 120


def images(n: int = N, height: int = 40, width: int = 33) -> Tensor:
    """Noise, and the same smoothed, as photographs are."""
    made = torch.randint(0, 256, (n, 3, height, width), generator=stream(0, "test.randaugment")).float()
    made[::2] = torch.nn.functional.avg_pool2d(made[::2], 5, 1, 2, count_include_pad=False) * 1.4 - 40
    return made.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class Sign:
    """Python's random, for timm: below one half an argument keeps its sign."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def random(self) -> float:
        return 0.0 if self.sign > 0 else 1.0


def by_timm(rule: RandAugment, image: Image.Image, which: int, level: float, sign: float, patch) -> Image.Image:
    if which < 0:
        return image
    names = timm._RAND_INCREASING_TRANSFORMS if rule.increasing else timm._RAND_TRANSFORMS
    settings = {"img_mean": rule.fill, "interpolation": FILTERS[rule.interpolation], "translate_const": 0}
    patch.setattr(timm, "random", Sign(sign))
    return timm.AugmentOp(names[which], prob=1.0, magnitude=level * 10, hparams=settings)(image)  # type: ignore[arg-type]


def differences(
    rule: RandAugment, monkeypatch: pytest.MonkeyPatch, which: Tensor, level: Tensor, sign: Tensor
) -> Tensor:
    """Of each image, the greatest difference in grey levels from timm's."""
    batch = images(len(which))
    got = rule.apply_operation(batch, which, level, sign).numpy().astype(int)
    numbers = zip(batch, which.tolist(), level.tolist(), sign.tolist(), strict=True)
    with monkeypatch.context() as patch:
        wanted = [np.asarray(by_timm(rule, Image.fromarray(x.numpy()), *rest, patch)) for x, *rest in numbers]
    return torch.from_numpy(np.abs(got - np.stack(wanted))).amax((1, 2, 3))


def sweep(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """This operation at magnitudes from 0 to 10, both ways."""
    ends = (0.25, 0.99) if name == "posterize" else (0.0, 1.0)  # Pillow 13 refuses to keep no bits
    level = torch.linspace(*ends, 11, dtype=torch.float64).repeat_interleave(2)
    return torch.full((22,), OPERATIONS.index(name)), level, torch.tensor([1.0, -1.0]).double().repeat(11)


@both_ways
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("increasing", [False, True])
def test_every_operation_is_timms_to_the_bit(
    way: None, name: str, increasing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for interpolation in FILTERS if name in randaugment._AFFINE_OPERATIONS else ("bicubic",):
        rule = RandAugment(increasing=increasing, interpolation=interpolation)  # type: ignore[arg-type]
        assert int(differences(rule, monkeypatch, *sweep(name)).max()) == 0


@both_ways
def test_posterize_that_keeps_no_bits_is_black(way: None) -> None:
    which, level, sign = torch.full((3,), OPERATIONS.index("posterize")), torch.full((3,), 0.2).double(), torch.ones(3)
    assert (RandAugment().apply_operation(images(3), which, level, sign) == 0).all()


@both_ways
@pytest.mark.parametrize("increasing", [False, True])
def test_two_turns_are_timms(way: None, increasing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, draws, batch = RandAugment(std=0.5, increasing=increasing), SampleRandom(1, 2, torch.arange(N) + 9), images()
    turns = [[part.tolist() for part in rule.sample_parameters(draws, "rand", turn)] for turn in range(2)]
    got = rule(batch, draws, "rand").numpy()
    for i in range(N):
        image = Image.fromarray(batch[i].numpy())
        with monkeypatch.context() as patch:
            for which, level, sign in turns:
                image = by_timm(rule, image, which[i], level[i], sign[i], patch)
        assert np.array_equal(got[i], np.asarray(image)), [OPERATIONS[which[i]] for which, _, _ in turns]


def test_choices_magnitudes_and_signs_are_timms_rule() -> None:
    which, level, sign = RandAugment(std=0.5).sample_parameters(SampleRandom(0, 0, torch.arange(40_000)), "rand", 0)
    assert abs(float((which < 0).float().mean()) - 0.5) < 0.01
    counts = which[which >= 0].bincount(minlength=15).double()
    expected = counts.sum() / 15
    assert len(counts) == 15
    assert float(((counts - expected) ** 2 / expected).sum()) < 14 + 5 * 28**0.5
    assert abs(float(sign.mean())) < 0.02
    free = level[level < 1]  # a normal distribution, but for what is cut off at 10, two deviations above 9
    assert abs(float((level == 1).double().mean()) - 0.02275) < 0.004
    assert abs(float(free.mean()) - (0.9 - 0.05 * 0.05525)) < 0.001
    constant = RandAugment().sample_parameters(SampleRandom(0, 0, torch.arange(9)), "rand", 0)[1]
    assert constant.tolist() == [0.9] * 9


WRONG = {
    "rotate": ("rotation_matrices", lambda degrees, h, w: affine.rotation_matrices(-degrees, h, w)),
    "shear_x": ("affine_transform", lambda x, m, *rest: affine.affine_transform(x, m * 1.01, *rest)),
    "translate_y": ("affine_transform", lambda x, m, fill, _: affine.affine_transform(x, m, fill, "bilinear")),
}


@pytest.mark.parametrize("name", WRONG)
def test_negative_control_another_move_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "has_color_kernel", lambda images: False)
    monkeypatch.setattr(randaugment, *WRONG[name])
    assert int(differences(RandAugment(), monkeypatch, *sweep(name)).max()) > 0


@needs_a_compiler
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("rotate", "m[0] * (x + 0.5)", "m[0] * x"),
        ("shear_x", "v[1] + share * (first", "v[1] + 0.99 * share * (first"),
        ("sharpness", "(2 * total + 13) / 26", "total / 13"),
        ("equalize", "(step / 2 + before) / step", "before / step"),
        ("autocontrast", "-low * scale", "-(low + 1) * scale"),
        ("solarize_add", "i >= 128 ? i", "i >= 127 ? i"),
    ],
)
def test_negative_control_a_mutant_of_the_kernel_is_noticed(
    name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with mutant("_COLOR_SOURCE", old, new, monkeypatch, tmp_path):
        assert int(differences(RandAugment(), monkeypatch, *sweep(name)).max()) > 0


@both_ways
@pytest.mark.parametrize("name", ["posterize", "solarize", "color", "sharpness"])
def test_negative_control_the_other_direction_of_magnitude_is_noticed(
    way: None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    which, level, sign = sweep(name)
    wanted = RandAugment(increasing=True).apply_operation(images(22), which, level, sign)
    assert not torch.equal(RandAugment(increasing=False).apply_operation(images(22), which, level, sign), wanted)


@both_ways
def test_an_image_is_changed_alike_in_any_batch_and_alone_of_one_channel(way: None) -> None:
    rule, ids = RandAugment(std=0.5), torch.arange(N) + 9
    whole = rule(images(), SampleRandom(1, 2, ids), "rand")
    parts = [
        rule(part, SampleRandom(1, 2, some), "rand") for part, some in zip(images().split(7), ids.split(7), strict=True)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert 0.1 < (whole == images()).flatten(1).all(1).float().mean() < 0.5
    assert rule(images()[..., :1], SampleRandom(1, 2, ids), "rand").shape == (N, 40, 33, 1)
    assert torch.equal(RandAugment(ops=0)(images(), SampleRandom(1, 2, ids), "rand"), images())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_makes_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, ids = RandAugment(std=0.5, increasing=True), torch.arange(N)
    draws = SampleRandom(0, 0, ids, device=torch.device("cuda"))
    wanted = rule(images(), SampleRandom(0, 0, ids), "rand")
    assert torch.equal(rule(images().cuda(), draws, "rand").cpu(), wanted)
    monkeypatch.setattr(randaugment, "choose_kernel", lambda images: None)
    assert torch.equal(rule(images().cuda(), draws, "rand").cpu(), wanted)
    unknown = rule(images().cuda(), SampleRandom(0, 0, ids.cuda()), "rand").cpu()
    assert (unknown.int() - wanted.int()).abs().max() <= 1  # a GPU's cosine may differ in the last bit
    assert (unknown != wanted).float().mean() < 1e-4

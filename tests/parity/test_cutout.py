"""Cutout against the authors' rule written out in NumPy: which pixels, how many, and whose they are."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from helpers.split_batches import same_in_parts, through_all
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import stream, uniform
from paribus.techniques import cutout as module
from paribus.techniques.cutmix import CutMix
from paribus.techniques.cutout import Cutout, cutout
from paribus.techniques.mixup import Mixup

N, CLASSES, HEIGHT, WIDTH = 12, 5, 10, 7
AT = Progress(step=6, total=20, seed=7, steps_per_epoch=4)  # epoch 1
SIX = Cutout(length=6)


def whole(n: int = N, height: int = HEIGHT, width: int = WIDTH) -> Batch:
    generator = stream(0, "test.cutout")
    inputs = torch.randn(n, 3, height, width, generator=generator)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    ids = torch.randperm(10 * n, generator=generator)[:n]
    return Batch(inputs, targets, ids, positions=torch.arange(n), size=n, classes=CLASSES)


def erased(height: int, width: int, cy: int, cx: int, length: int) -> np.ndarray:
    """The authors' rule, pixel by pixel: True where a square around (cy, cx) erases."""
    mask = np.zeros((height, width), dtype=bool)
    for y in range(cy - length // 2, cy + length // 2):
        for x in range(cx - length // 2, cx + length // 2):
            if 0 <= y < height and 0 <= x < width:
                mask[y, x] = True
    return mask


def mismatches(length: int, height: int, width: int) -> int:
    """Centres, of all there are, whose square is not the authors'."""
    y, x = torch.cartesian_prod(torch.arange(height), torch.arange(width)).unbind(1)
    ones = torch.ones(len(y), 2, height, width)
    ours = module.apply(ones, module.squares(y, x, length, height, width)).numpy()
    wanted = [~erased(height, width, int(cy), int(cx), length) for cy, cx in zip(y, x, strict=True)]
    return sum(bool((image != keep).any()) for image, keep in zip(ours, wanted, strict=True))


@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 16])
@pytest.mark.parametrize(("height", "width"), [(12, 12), (10, 7)])
def test_every_centre_erases_the_authors_pixels(length, height, width):
    assert mismatches(length, height, width) == 0


_squares = module.squares
WRONG_SQUARES = {
    "length as half a side": lambda y, x, length, h, w: _squares(y, x, 2 * length, h, w),
    "moved by a pixel": lambda y, x, length, h, w: _squares(y + 1, x, length, h, w),
    "axes swapped": lambda y, x, length, h, w: _squares(y, x, length, h, w)[:, [1, 0, 3, 2]],
    "kept inside": lambda y, x, length, h, w: _squares(
        y.clamp(length // 2, h - length // 2), x.clamp(length // 2, w - length // 2), length, h, w
    ),
}


@pytest.mark.parametrize("wrong", WRONG_SQUARES)
def test_negative_control_another_square_erases_others(wrong, monkeypatch):
    monkeypatch.setattr(module, "squares", WRONG_SQUARES[wrong])
    assert mismatches(6, 10, 7) > 0


def by_hand(batch: Batch, epoch: int, length: int) -> np.ndarray:
    """Sample by sample: its two numbers give the centre, the square around it becomes 0."""
    out = batch.inputs.numpy().copy()
    numbers = uniform(AT.seed, "cutout", epoch, batch.ids, 2).double().numpy()
    for i, (u, v) in enumerate(numbers):
        mask = erased(*out.shape[2:], int(np.floor(u * out.shape[2])), int(np.floor(v * out.shape[3])), length)
        out[i, :, mask] = 0.0
    return out


def test_each_image_loses_the_square_at_its_own_centre_and_keeps_its_target():
    batch = whole()
    out = SIX(batch, AT)
    assert np.array_equal(out.inputs.numpy(), by_hand(batch, epoch=1, length=6))
    assert torch.equal(out.targets, batch.targets)
    assert out.targets.dtype == torch.int64


@pytest.mark.parametrize(
    "wrong",
    [lambda x, box: _apply(x, box[:1].expand_as(box)), lambda x, box: x - _apply(x, box), lambda x, box: x],
    ids=["one square for all", "the rest erased", "nothing erased"],
)
def test_negative_control_other_pixels_are_noticed(wrong, monkeypatch):
    monkeypatch.setattr(module, "apply", wrong)
    batch = whole()
    assert not np.array_equal(SIX(batch, AT).inputs.numpy(), by_hand(batch, epoch=1, length=6))


_apply = module.apply


def shares(length: int, size: int) -> list[Fraction]:
    """Of the pixels of a square image, erased by the square around each centre: exact."""
    centres = itertools.product(range(size), repeat=2)
    return [Fraction(int(erased(size, size, *centre, length).sum()), size**2) for centre in centres]


def expected_share(length: int, size: int) -> Fraction:
    return sum(shares(length, size), Fraction(0)) / size**2


def deviation(length: int, size: int, n: int = 20_000) -> float:
    """Of the measured mean share of erased pixels from its exact expectation, in standard errors."""
    box = Cutout(length=length).draw(AT, torch.arange(n), size, size)
    areas = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).double() / size**2
    error = np.std([float(share) for share in shares(length, size)]) / n**0.5
    return abs(float(areas.mean()) - float(expected_share(length, size))) / error


@pytest.mark.parametrize(("length", "size"), [(16, 32), (8, 32), (4, 12)])
def test_the_mean_erased_area_is_its_exact_expectation(length, size):
    assert deviation(length, size) < 3.5


def test_the_exact_expectation_is_that_of_a_clipped_square():
    # an axis of 32 pixels: 16 of 16 when the centre is 8..24, else 8 + c or 40 − c, so (17·16 + 92 + 84) / 32 = 14
    assert expected_share(16, 32) == Fraction(14, 32) ** 2


@pytest.mark.parametrize("wrong", ["length as half a side", "kept inside"])
def test_negative_control_the_area_of_another_square_is_noticed(wrong, monkeypatch):
    monkeypatch.setattr(module, "squares", WRONG_SQUARES[wrong])
    assert deviation(16, 32) > 10


def p_value_of_centres(centres: Tensor, size: int) -> float:
    return stats.chisquare(torch.bincount(centres, minlength=size).numpy()).pvalue


def test_centres_are_uniform_over_the_pixels_and_their_axes_independent():
    box = Cutout(length=2).draw(AT, torch.arange(20_000), 12, 9)
    y, x = box[:, 2] - 1, box[:, 3] - 1  # a square of side 2 around c ends at c + 1, which is never clipped
    assert p_value_of_centres(y, 12) > 0.001
    assert p_value_of_centres(x, 9) > 0.001
    assert p_value_of_centres(y * 9 + x, 108) > 0.001


def test_negative_control_centres_that_share_one_number_are_noticed(monkeypatch):
    monkeypatch.setattr(module, "uniform", lambda *args: uniform(*args[:-1], 1).expand(-1, 2))
    box = Cutout(length=2).draw(AT, torch.arange(20_000), 12, 9)
    assert p_value_of_centres((box[:, 2] - 1) * 9 + box[:, 3] - 1, 108) < 1e-6


def test_inputs_are_not_changed_in_place():
    batch = whole()
    before = batch.inputs.clone()
    SIX(batch, AT)
    assert torch.equal(batch.inputs, before)


def test_a_square_belongs_to_seed_epoch_and_sample():
    batch = whole()
    first = SIX(batch, AT).inputs
    torch.manual_seed(99)
    assert torch.equal(SIX(batch, AT).inputs, first)
    assert torch.equal(SIX(batch, replace(AT, step=7)).inputs, first)  # the same epoch
    for other in (replace(AT, step=8), replace(AT, seed=8)):
        assert not torch.equal(SIX(batch, other).inputs, first)
    order = torch.randperm(N, generator=stream(0, "test.cutout.order"))
    assert torch.equal(SIX(batch.peers(order), AT).inputs, first[order])


STACKS = {
    "cutout": (SIX,),
    "cutout then mixup": (SIX, Mixup()),
    "cutout then cutmix": (SIX, CutMix()),
    "mixup then cutout": (Mixup(), SIX),
}


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("stack", STACKS)
def test_a_batch_in_parts_is_the_whole_batch(stack, parts):
    assert same_in_parts(whole(), parts, AT, *STACKS[stack])


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("stack", STACKS)
def test_negative_control_numbers_that_belong_to_the_place_in_a_part_are_another_batch(stack, parts, monkeypatch):
    monkeypatch.setattr(
        module, "uniform", lambda seed, name, epoch, ids, n: uniform(seed, name, epoch, torch.arange(len(ids)), n)
    )
    assert not same_in_parts(whole(), parts, AT, *STACKS[stack])


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("stack", ["cutout then mixup", "cutout then cutmix"])
def test_negative_control_partners_that_missed_the_square_are_another_batch(stack, parts, monkeypatch):
    monkeypatch.setattr(Batch, "apply", lambda self, change: change(self))
    assert not same_in_parts(whole(), parts, AT, *STACKS[stack])


def test_mixup_after_cutout_mixes_images_with_their_squares():
    batch, drawn = whole(), Mixup().draw(AT, N)
    cut, lam = by_hand(batch, epoch=1, length=6), float(drawn.lam[0])
    wanted = lam * cut + (1 - lam) * cut[drawn.partners.numpy()]
    out = through_all(batch, AT, SIX, Mixup())
    assert np.abs(out.inputs.numpy() - wanted).max() < 1e-6
    assert torch.allclose(out.targets.sum(1), torch.ones(N), atol=1e-6)


@pytest.mark.parametrize("length", [0, 1])
def test_no_length_is_the_baseline_itself(length):
    batch = whole()
    assert Cutout(length=length)(batch, AT) is batch


def test_a_square_that_always_covers_the_image_is_refused():
    batch = whole(height=8, width=8)
    assert not torch.equal(Cutout(length=15)(batch, AT).inputs, torch.zeros_like(batch.inputs))
    with pytest.raises(ConfigError, match=r"cutout.length: found 16; on images of 8×8 .* less than 16"):
        Cutout(length=16).check(Spec(classes=4, channels=3, height=8, width=8))
    Cutout(length=15).check(Spec(classes=4, channels=3, height=8, width=8))


def test_default_is_the_authors_length_of_16():
    assert Cutout().length == 16


def test_the_function_erases_squares_of_the_rule_and_spares_its_argument():
    ones = torch.ones(64, 3, 10, 7)
    out = cutout(ones, length=6, generator=stream(0, "test.cutout.function")).numpy()
    allowed = {erased(10, 7, y, x, 6).tobytes() for y in range(10) for x in range(7)}
    assert all((image == image[:1]).all() for image in out)
    masks = {(image[0] == 0).tobytes() for image in out}
    assert masks <= allowed
    assert len(masks) > 10
    assert (ones == 1).all()


@pytest.mark.parametrize(("shape", "length", "said"), [((3, 8, 8), 4, "shape"), ((2, 3, 8, 8), -1, "length >= 0")])
def test_the_function_refuses_what_it_cannot_cut(shape, length, said):
    with pytest.raises(ValueError, match=said):
        cutout(torch.zeros(shape), length=length)


def test_the_memory_format_and_dtype_stay():
    batch = whole()
    for dtype in (torch.float32, torch.float64):
        inputs = batch.inputs.to(dtype, memory_format=torch.channels_last)
        out = SIX(replace(batch, inputs=inputs), AT).inputs
        assert out.dtype == dtype
        assert out.is_contiguous(memory_format=torch.channels_last)

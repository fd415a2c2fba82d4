"""Random Erasing against timm's code, fed with the same numbers: which pixels, whose, and what they become."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data import random_erasing
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import key64, stream, uniform
from paribus.techniques import erasing as module
from paribus.techniques.cutmix import CutMix
from paribus.techniques.erasing import RandomErasing

N, HEIGHT, WIDTH = 200, 20, 13
AT = Progress(step=6, total=20, seed=7, steps_per_epoch=4)  # epoch 1
HALF = RandomErasing(prob=0.5, mode="const")


def whole(n: int = N, height: int = HEIGHT, width: int = WIDTH) -> Batch:
    generator = stream(0, "test.erasing")
    inputs = torch.randn(n, 3, height, width, generator=generator)
    ids = torch.randperm(10 * n, generator=generator)[:n]
    return Batch(inputs, torch.arange(n) % 5, ids, positions=torch.arange(n), size=n, classes=5)


class Numbers:
    """Python's random, for timm, with the numbers of one of our samples: two a try, the last two for the place."""

    def __init__(self, numbers: list[float]) -> None:
        self.first, self.tries, self.places = numbers[0], iter(numbers[1:-2]), iter(numbers[-2:])

    def random(self) -> float:
        return self.first

    def uniform(self, low: float, high: float) -> float:
        return low + next(self.tries) * (high - low)

    def randint(self, low: int, high: int) -> int:
        return math.floor(next(self.places) * (high - low + 1)) + low


def by_timm(batch: Batch, rule: RandomErasing, monkeypatch: pytest.MonkeyPatch, ids: Tensor | None = None) -> Tensor:
    theirs = random_erasing.RandomErasing(
        rule.prob, rule.area[0], rule.area[1], rule.ratio[0], rule.ratio[1], mode="const", device="cpu"
    )
    drawn = uniform(AT.seed, "erasing", 1, batch.ids if ids is None else ids, 23).double().tolist()
    out = batch.inputs.clone()
    for image, numbers in zip(out, drawn, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(random_erasing, "random", Numbers(numbers))
            theirs(image)
    return out


RULES = {
    "paper": RandomErasing(prob=0.5, area=(0.02, 0.4), mode="const"),
    "deit": RandomErasing(mode="const"),
    "often too large": RandomErasing(prob=1.0, area=(0.5, 0.99), ratio=(0.2, 5.0), mode="const"),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_same_numbers_erase_timms_pixels(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = whole()
    assert torch.equal(RULES[rule](batch, AT).inputs, by_timm(batch, RULES[rule], monkeypatch))


_rectangles = module.rectangles
WRONG = {
    "sides swapped": lambda u, area, ratio, h, w: _rectangles(u, area, (1 / ratio[1] - 0.1, 1 / ratio[0]), h, w),
    "moved by a pixel": lambda *args: _rectangles(*args) + torch.tensor([0, 1, 0, 1]),
    "area of another range": lambda u, area, *rest: _rectangles(u, (area[0], area[1] * 0.9), *rest),
    "one try": lambda u, *rest: _rectangles(torch.cat([u[:, :2]] * 10 + [u[:, -2:]], 1), *rest),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_negative_control_another_rectangle_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, rule = whole(), RULES["often too large"]
    wanted = by_timm(batch, rule, monkeypatch)
    monkeypatch.setattr(module, "rectangles", WRONG[wrong])
    assert not torch.equal(rule(batch, AT).inputs, wanted)


def test_negative_control_numbers_of_other_samples_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = whole()
    assert not torch.equal(HALF(batch, AT).inputs, by_timm(batch, HALF, monkeypatch, ids=batch.ids.flip(0)))


def test_erased_pixels_become_standard_normal_noise_and_no_other_changes() -> None:
    batch = whole()
    const, pixel = (replace_mode(mode)(batch, AT).inputs for mode in ("const", "pixel"))
    erased = const == 0
    assert 0.03 < erased.float().mean() < 0.15
    assert torch.equal(pixel[~erased], batch.inputs[~erased])
    values = pixel[erased].double().numpy()
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert len(np.unique(values)) > 0.5 * len(values)
    assert stats.kstest(values * 1.05, "norm").pvalue < 0.001  # the test would notice 5 % of the deviation


def replace_mode(mode: str) -> RandomErasing:
    return RandomErasing(prob=0.5, mode=mode)  # type: ignore[arg-type]


def test_noise_belongs_to_the_sample_and_the_pixel() -> None:
    key, places = key64(0, "erasing.noise", 0), torch.arange(50_000)
    both = module.noise(key, torch.tensor([[3], [9]]), places)
    assert torch.equal(module.noise(key, torch.tensor([9]), places), both[1])
    assert abs(torch.corrcoef(both)[0, 1]) < 5 / 50_000**0.5
    assert both.isfinite().all()
    assert 3.9 < module._quantiles(torch.device("cpu"))[-1] < 4.1


def parts_of(batch: Batch, parts: int) -> list[Batch]:
    def fetch(positions: Tensor) -> Batch:
        rows = {name: getattr(batch, name)[positions] for name in ("inputs", "targets", "ids")}
        return replace(batch, **rows, positions=positions, fetch=fetch)

    return [fetch(positions) for positions in torch.arange(batch.size).chunk(parts)]


@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_is_the_whole_batch_and_partners_come_erased(parts: int) -> None:
    rule, mix = RandomErasing(prob=0.5), CutMix()
    alone = mix(rule(whole(), AT), AT)
    made = [mix(rule(part, AT), AT) for part in parts_of(whole(), parts)]
    assert torch.equal(torch.cat([part.inputs for part in made]), alone.inputs)


def test_a_rectangle_belongs_to_seed_epoch_and_sample() -> None:
    batch, rule = whole(), RandomErasing(prob=0.5)
    first = rule(batch, AT).inputs
    torch.manual_seed(99)
    assert torch.equal(rule(batch, replace(AT, step=7)).inputs, first)  # the same epoch
    for other in (replace(AT, step=8), replace(AT, seed=8)):
        assert not torch.equal(rule(batch, other).inputs, first)


def test_nothing_is_changed_in_place_and_the_layout_stays() -> None:
    batch = whole()
    inputs = batch.inputs.double().contiguous(memory_format=torch.channels_last)
    before = inputs.clone()
    for mode in ("const", "pixel"):
        out = replace_mode(mode)(replace(batch, inputs=inputs), AT).inputs
        assert torch.equal(inputs, before)
        assert out.dtype == torch.float64
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_no_probability_is_the_baseline_itself() -> None:
    batch = whole()
    assert RandomErasing(prob=0.0)(batch, AT) is batch


@pytest.mark.parametrize("wrong", [{"area": (0.5, 0.1)}, {"ratio": (3.0, 0.3)}])
def test_a_range_upside_down_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"transforms.erasing.\w+: found \[.*the first must not be greater"):
        RandomErasing(**wrong).check(Spec(classes=4, channels=3, height=8, width=8))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_same_pixels_become_the_same_noise() -> None:
    batch = whole()
    there = replace(batch, inputs=batch.inputs.cuda(), ids=batch.ids.cuda())
    rule = RandomErasing(prob=0.5)
    assert torch.equal(rule(there, AT).inputs.cpu(), rule(batch, AT).inputs)

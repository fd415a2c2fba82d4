"""CutMix's variants beside the installed timm and torchvision, all given the same λ and centres; each comparison has a
negative control with another variant in its place."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.trainings import recipe_of
from paribus.techniques import cutmix as module
from paribus.techniques.cutmix import VARIANTS, BoxMix, CutMix, bbox, bboxes, cutmix, draw, mix_tensors

CLASSES = 5
BOXES = 400


@contextmanager
def drawing(owner: Any, **queues: list[Any]) -> Iterator[None]:
    """Functions of `owner` that give back the queued numbers in turn, whatever they are asked."""
    with pytest.MonkeyPatch.context() as patched:
        for name, queue in queues.items():
            numbers = iter(queue)
            patched.setattr(owner, name, lambda *_, numbers=numbers, **__: next(numbers))
        yield
    for queue in queues.values():
        assert queue, "nothing was drawn"


def cases(n: int = BOXES) -> list[tuple[float, tuple[int, int], tuple[int, int]]]:
    """(λ, centre, size) with λ a float32 number, for libraries that draw in that precision."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        height, width = int(rng.integers(1, 64)), int(rng.integers(1, 64))
        lam = float(np.float32([rng.beta(1, 1), rng.beta(0.2, 0.2), 0.0, 1.0][i % 4]))
        made.append((lam, (int(rng.integers(height)), int(rng.integers(width))), (height, width)))
    return made


def timm_box(lam: float, centre: tuple[int, int], size: tuple[int, int]) -> tuple[int, ...]:
    from timm.data.mixup import rand_bbox

    with drawing(np.random, randint=list(centre)):
        top, bottom, left, right = rand_bbox((2, 3, *size), lam)
    return int(top), int(left), int(bottom), int(right)


class FixedBeta:
    def __init__(self, lam: float) -> None:
        self.lam = lam

    def sample(self, *_: Any) -> Tensor:
        return torch.tensor([self.lam])


def torchvision_mix(transform: Any, lam: float, centre: tuple[int, int]) -> Any:
    """The transform with λ and centre told; it asks for the column first."""
    transform._dist = FixedBeta(lam)
    return drawing(torch, randint=[torch.tensor([c]) for c in reversed(centre)])


def torchvision_box(lam: float, centre: tuple[int, int], size: tuple[int, int]) -> tuple[int, ...]:
    from torchvision.transforms import v2

    transform = v2.CutMix(num_classes=CLASSES)
    with torchvision_mix(transform, lam, centre):
        left, top, right, bottom = transform.make_params([torch.zeros(1, 3, *size)])["box"]
    return int(top), int(left), int(bottom), int(right)


def mismatches(theirs: Callable[..., tuple[int, ...]], rule: Any) -> int:
    return sum(bbox(lam, centre, *size, rule) != theirs(lam, centre, size) for lam, centre, size in cases())


def test_boxes_are_those_of_the_installed_timm_and_torchvision() -> None:
    assert mismatches(timm_box, "timm") == 0
    assert mismatches(torchvision_box, "authors") == 0


def test_negative_control_timm_and_torchvision_round_differently() -> None:
    assert mismatches(timm_box, "authors") > BOXES / 5
    assert mismatches(torchvision_box, "timm") > BOXES / 5


@pytest.mark.parametrize("rule", ["authors", "timm"])
def test_boxes_at_once_are_boxes_one_by_one(rule: Any) -> None:
    for size in ((32, 32), (7, 40), (1, 1)):
        some = [(lam, (y % size[0], x % size[1])) for lam, (y, x), _ in cases()]
        # 1 − λ one step below 1, where a square root that is not rounded correctly gives another box
        some += [(2.0**-53, (size[0] // 2, size[1] // 2))] * 9
        lam, centre = torch.tensor([c[0] for c in some], dtype=torch.float64), torch.tensor([c[1] for c in some])
        assert bboxes(lam, centre, *size, rule).tolist() == [list(bbox(*c, *size, rule)) for c in some]


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(n)
    return torch.from_numpy(rng.normal(size=(n, 3, 17, 24))).float(), torch.from_numpy(rng.integers(0, CLASSES, n))


def ours(variant: str, lams: list[float], centres: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The variant's answer to these λ and centres: through `draw`, with the random numbers alone replaced."""
    x, y = batch()
    rule = CutMix(**VARIANTS[variant])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "sample_beta", lambda *_: lams[0])
        patched.setattr(module, "sample_betas", lambda *_: torch.tensor(lams, dtype=torch.float64))
        columns = [torch.tensor(axis if rule.per == "sample" else axis[0]) for axis in zip(*centres, strict=True)]
        with drawing(torch, randint=columns):
            mix = draw(len(x), *x.shape[2:], rule, torch.Generator())
    assert mix is not None
    return mix_tensors(x, y, x, y, mix.partners, mix, CLASSES)


def timm(mode: str, lams: list[float], centres: list[tuple[int, int]], correct: bool = True) -> tuple[Tensor, Tensor]:
    from timm.data import Mixup

    x, y = batch()
    theirs = Mixup(0.0, 1.0, mode=mode, label_smoothing=0.0, num_classes=CLASSES, correct_lam=correct)
    one = mode == "batch"
    numbers = [c for centre in (centres[:1] if one else centres) for c in centre]
    drawn = lams[0] if one else np.array(lams)
    rand = 0.5 if one else np.full(len(lams), 0.5)
    with drawing(np.random, rand=[rand], beta=[drawn], randint=numbers):
        return theirs(x, y)


def torchvision(lams: list[float], centres: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    from torchvision.transforms import v2

    transform = v2.CutMix(num_classes=CLASSES)
    with torchvision_mix(transform, lams[0], centres[0]):
        return transform(*batch())


PEERS = {
    "timm": lambda *a: timm("batch", *a),
    "timm_elem": lambda *a: timm("elem", *a),
    "torchvision": torchvision,
}


def difference(variant: str, peer: str) -> tuple[int, float]:
    """Pixels that differ, and the largest difference of targets, over 60 draws."""
    pixels, targets, rng = 0, 0.0, np.random.default_rng(1)
    for _ in range(60):
        lams = [float(np.float32(lam)) for lam in rng.beta(1, 1, 6)]
        centres = [(int(rng.integers(17)), int(rng.integers(24))) for _ in lams]
        (x, y), (their_x, their_y) = ours(variant, lams, centres), PEERS[peer](lams, centres)
        pixels += int((x != their_x).sum())
        targets = max(targets, float((y - their_y).abs().max()))
    return pixels, targets


@pytest.mark.parametrize("peer", PEERS)
def test_pixels_and_targets_are_those_of_the_installed_library(peer: str) -> None:
    pixels, targets = difference(peer, peer)
    assert pixels == 0
    assert targets < 1e-6  # they round λ to float32 at other places


@pytest.mark.parametrize(
    ("variant", "peer"),
    [("authors", "timm"), ("authors", "torchvision"), ("torchvision", "timm"), ("timm", "torchvision")],
)
def test_negative_control_another_variant_is_noticed(variant: str, peer: str) -> None:
    pixels, targets = difference(variant, peer)
    assert pixels > 0
    assert targets > 1e-3


def test_an_uncorrected_share_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "here", {**VARIANTS["timm"], "correct_lam": False})
    lams, centres = [0.31], [(0, 23)]
    (_, y), (_, their_y) = ours("here", lams, centres), timm("batch", lams, centres, correct=False)
    assert float((y - their_y).abs().max()) < 1e-6
    assert float((y - ours("timm", lams, centres)[1]).abs().max()) > 0.1


def test_every_variant_is_a_config_and_a_call_and_they_are_all_different() -> None:
    x, y = batch()
    seen = set()
    for name, variant in VARIANTS.items():
        overrides = [f"transforms.cutmix.{key}={str(value).lower()}" for key, value in variant.items()]
        built = recipe_of("experiment=smoke", *overrides, techniques=("cutmix",)).transforms["cutmix"]
        assert built == CutMix(**variant), name
        mixed, weights = cutmix(x, y, CLASSES, generator=torch.Generator().manual_seed(5), **variant)
        seen.add((mixed.numpy().tobytes(), weights.numpy().tobytes()))
    assert len(seen) == len(VARIANTS)


def test_the_card_lists_every_variant_with_its_settings() -> None:
    lines = [line.split() for line in str(sys.modules[CutMix.__module__].__doc__).splitlines()]
    rows = {cells[0]: cells[1:5] for cells in lines if cells and cells[0] in VARIANTS and len(cells) > 5}
    for name, variant in VARIANTS.items():
        rule = CutMix(**variant)
        assert rows[name] == [rule.box, rule.partner, rule.per, str(rule.correct_lam).lower()]


def test_an_unmixed_row_is_no_change() -> None:
    x, y = batch()
    mix = BoxMix.unmixed(6)
    mixed, weights = mix_tensors(x, y, x, y, mix.partners, mix, CLASSES)
    assert torch.equal(mixed, x)
    assert torch.equal(weights, torch.eye(CLASSES)[y])

"""Occlusion: as loops over pixels hide them, at any batch size and in any number of processes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.evaluations import plain_context
from helpers.launches import META, Launches
from helpers.pretended_ranks import on_ranks
from paribus.core.batch import Batch
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.evaluators import occlusion
from paribus.evaluators.occlusion import Occlusion

CLASSES, N, HEIGHT, WIDTH = 4, 37, 6, 9


class SumOfPixels:
    """Predicts (sum of the pixels, which are whole) mod classes."""

    def __init__(self) -> None:
        self.images = 0

    def predict(self, inputs: Tensor) -> Tensor:
        self.images += len(inputs)
        return torch.nn.functional.one_hot(inputs.sum((1, 2, 3)).floor().long() % CLASSES, CLASSES).float()


def make_images() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    inputs = torch.randint(0, 4, (N, 2, HEIGHT, WIDTH), generator=random).float()
    targets = (inputs.sum((1, 2, 3)).long() + torch.randint(0, 2, (N,), generator=random)) % CLASSES
    return inputs, targets, torch.randperm(N, generator=random)


def curves_by_loops(fractions: list[float]) -> dict[str, list[float]]:
    inputs, targets, _ = make_images()
    found: dict[str, list[float]] = {"center": [], "border": []}
    for kind, curve in found.items():
        for fraction in fractions:
            rows, columns = round(fraction * HEIGHT), round(fraction * WIDTH)
            top, left = (HEIGHT - rows) // 2, (WIDTH - columns) // 2
            hits = 0
            for image, target in zip(inputs.numpy(), targets.tolist(), strict=True):
                total = 0
                for y in range(HEIGHT):
                    for x in range(WIDTH):
                        inside = top <= y < top + rows and left <= x < left + columns
                        if inside == (kind == "border"):
                            total += int(image[:, y, x].sum())
                hits += total % CLASSES == target
            curve.append(hits / N)
    return found


def check_against_loops(evaluator: Occlusion, fractions: list[float], world: int) -> None:
    context = plain_context(CLASSES)
    sums = on_ranks(evaluator, SumOfPixels(), make_images(), context, world)
    metrics, curves = sums.means(), curves_by_loops(fractions)
    for kind in ("center", "border"):
        assert metrics[f"val/occlusion_{kind}"] == pytest.approx(np.mean(curves[kind]), rel=1e-12)
        curve = evaluator.details(sums, context)[kind]["curve"]
        assert curve["x"] == fractions
        assert curve["y"] == curves[kind]


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_as_loops_over_pixels(size: int, world: int) -> None:
    check_against_loops(Occlusion(sides=4, batch_size=size), [0, 0.25, 0.5, 0.75, 1], world)


def test_sides_may_be_listed_and_both_ends_are_shared() -> None:
    check_against_loops(Occlusion(sides=(0.2, 0.7)), [0.2, 0.7], 1)
    curves = curves_by_loops([0, 1])
    assert curves["center"] == curves["border"][::-1]


def test_negative_control_a_square_that_is_off_the_centre_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = occlusion.centre_square
    monkeypatch.setattr(occlusion, "centre_square", lambda *args: right(*args).roll(1, 1))
    with pytest.raises(AssertionError):
        check_against_loops(Occlusion(sides=4), [0, 0.25, 0.5, 0.75, 1], 1)


def test_more_processes_than_images() -> None:
    few = tuple(part[:2] for part in make_images())
    one, four = (on_ranks(Occlusion(), SumOfPixels(), few, plain_context(CLASSES), world) for world in (1, 4))
    assert one.means() == four.means()


def test_passes_are_two_for_each_step() -> None:
    method = SumOfPixels()
    sums = on_ranks(Occlusion(sides=3), method, make_images(), plain_context(CLASSES), 1)  # three steps of two rows
    assert method.images == 2 * 3 * N
    assert sums.counts["val/occlusion_center"] == 4 * N


def test_other_splits_go_by_their_names() -> None:
    evaluator, context = Occlusion(splits=("minival",)), plain_context(CLASSES)
    sums = on_ranks(evaluator, SumOfPixels(), make_images(), context, 1, name="minival")
    assert set(sums.means()) == set(evaluator.keys) == {"minival/occlusion_center", "minival/occlusion_border"}
    assert set(evaluator.details(sums, context)) == {"minival/center", "minival/border"}


@pytest.mark.parametrize("sides", [0, [], [0.5, 0.25], [0.5, 0.5], [0, 1.5], True])
def test_sides_that_make_no_curve_are_refused(sides: object) -> None:
    with pytest.raises(ConfigError, match="sides"):
        build({"_target_": "paribus.evaluators.occlusion.Occlusion", "sides": sides})


def test_a_limit_takes_images_evenly_spaced() -> None:
    inputs, targets, ids = make_images()
    few = [part[torch.arange(7) * N // 7] for part in (inputs, targets, ids)]
    expected = on_ranks(Occlusion(), SumOfPixels(), few, plain_context(CLASSES), 1).means()
    for world in (1, 4):
        limited = on_ranks(
            Occlusion(limit=7, batch_size=5), SumOfPixels(), make_images(), plain_context(CLASSES), world
        )
        assert limited.means() == expected


def test_it_waits_in_no_batch() -> None:
    index = torch.zeros(8, dtype=torch.int64, device=META)
    batch = Batch(torch.zeros(8, 3, 4, 4, device=META), index, index, index, 8, CLASSES)

    class Zeros:
        def predict(self, inputs: Tensor) -> Tensor:
            return inputs.new_zeros(len(inputs), CLASSES)

    with Launches() as counted:
        Occlusion()(Zeros(), {"val": lambda size: [batch] * 3}, plain_context(CLASSES, device="meta"))
    assert counted.waits == []

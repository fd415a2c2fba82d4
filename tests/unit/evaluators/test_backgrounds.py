"""Objects before other backgrounds: which images take part, what is removed and what counts, as loops have it."""

from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from helpers.evaluations import plain_context
from helpers.pretended_ranks import on_ranks
from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, Spec
from paribus.core.streams import uniform
from paribus.evaluators import backgrounds
from paribus.evaluators.backgrounds import ExchangedBackgrounds, is_inside, remove_objects, round_boxes
from paribus.evaluators.some_images import choose_partners

CLASSES, N, HEIGHT, WIDTH = 4, 43, 6, 9
DRAWS, LARGEST = 3, 0.5


class WeighedPixels:
    """Predicts (a weighed sum of the pixels) mod classes: whole numbers, exact in any batch, other at other places."""

    def predict(self, inputs: Tensor) -> Tensor:
        weights = torch.arange(inputs[0].numel()).reshape(inputs.shape[1:]) % 7 + 1
        return torch.nn.functional.one_hot((inputs * weights).sum((1, 2, 3)).long() % CLASSES, CLASSES).float()


def make_images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of which every fifth has no box, and some have one that is too large."""
    random = torch.Generator().manual_seed(6)
    inputs = torch.randint(0, 8, (N, 2, HEIGHT, WIDTH), generator=random).float()
    targets, ids = torch.randint(0, CLASSES, (N,), generator=random), torch.randperm(N, generator=random) + 1000
    corner = torch.rand(N, 2, generator=random) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    far = corner + 0.5 + torch.rand(N, 2, generator=random) * 6
    boxes = torch.cat([corner, torch.minimum(far, torch.tensor([WIDTH, HEIGHT]))], 1)
    boxes[::5] = float("nan")
    return inputs, targets, ids, boxes


def edges_of(box: list[float]) -> tuple[int, int, int, int] | None:
    """The box in whole pixels, if it takes part."""
    if box[0] != box[0]:
        return None
    x1, y1, x2, y2 = int(box[0]), int(box[1]), -int(-box[2] // 1), -int(-box[3] // 1)
    return (x1, y1, x2, y2) if (x2 - x1) * (y2 - y1) <= LARGEST * HEIGHT * WIDTH else None


def without_object(y: int, x: int, edges: tuple[int, int, int, int]) -> tuple[int, int]:
    """From where the pixel at this place comes."""
    x1, y1, x2, y2 = edges
    if not (y1 <= y < y2 and x1 <= x < x2):
        return y, x
    areas = [x1 * HEIGHT, (WIDTH - x2) * HEIGHT, y1 * WIDTH, (HEIGHT - y2) * WIDTH]
    best = areas.index(max(areas))
    if best == 0:
        return y, x % x1
    if best == 1:
        return y, x2 + (x - x2) % (WIDTH - x2)
    return (y % y1, x) if best == 2 else (y2 + (y - y2) % (HEIGHT - y2), x)


def predicted(pixels: list[list[list[float]]]) -> int:
    flat = [value for channel in pixels for line in channel for value in line]
    return int(sum(value * (i % 7 + 1) for i, value in enumerate(flat))) % CLASSES


def account(seed: int) -> dict[str, float]:
    """Image by image, background by background, pixel by pixel."""
    inputs, targets, ids, boxes = (part.tolist() for part in make_images())
    edges = {i: edges_of(box) for i, box in zip(ids, boxes, strict=True)}
    row = {i: k for k, i in enumerate(ids)}
    there = sorted(i for i in ids if edges[i] is not None)
    right, images = {"own": 0, "same": 0, "other": 0}, 0
    for i in there:
        own = targets[row[i]]
        pools = {
            "same": [j for j in there if targets[row[j]] == own and j != i],
            "other": [j for c in range(CLASSES) for j in there if targets[row[j]] == c != own],
        }
        if not all(pools.values()):
            continue
        images += 1
        right["own"] += predicted(inputs[row[i]]) == own
        x1, y1, x2, y2 = edges[i] or (0, 0, 0, 0)
        for kind, pool in pools.items():
            for u in uniform(seed, f"backgrounds.{kind}", 0, torch.tensor([i]), DRAWS)[0].tolist():
                j = pool[int(u * len(pool))]
                made = [[[0.0] * WIDTH for _ in range(HEIGHT)] for _ in range(2)]
                for c in range(2):
                    for y in range(HEIGHT):
                        for x in range(WIDTH):
                            from_y, from_x = without_object(y, x, edges[j] or (0, 0, 0, 0))
                            is_object = y1 <= y < y2 and x1 <= x < x2
                            made[c][y][x] = inputs[row[i]][c][y][x] if is_object else inputs[row[j]][c][from_y][from_x]
                right[kind] += predicted(made) == own
    found = {kind: hits / (images * (1 if kind == "own" else DRAWS)) for kind, hits in right.items()}
    found["gap"] = (right["same"] - right["other"]) / (images * DRAWS)
    return {f"val/background_{kind}": value for kind, value in found.items()} | {"images": images}


def measured(size: int, world: int) -> dict[str, float]:
    evaluator = ExchangedBackgrounds(draws=DRAWS, largest=LARGEST, seed=3, batch_size=size)
    context = plain_context(CLASSES)
    sums = on_ranks(evaluator, WeighedPixels(), make_images(), context, world)
    (count,) = evaluator.details(sums, context)["val/images"]["text"].split()[:1]
    return {**sums.means(), "images": int(count)}


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_as_loops_over_objects_backgrounds_and_pixels(size: int, world: int) -> None:
    wanted = account(seed=3)
    assert measured(size, world) == wanted
    assert set(wanted) - {"images"} == set(ExchangedBackgrounds().keys)
    assert 10 < wanted["images"] < 0.8 * N
    assert wanted["val/background_gap"] != 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("remove_objects", lambda inputs, boxes: inputs),
        ("is_inside", lambda boxes, height, width: ~is_inside(boxes, height, width)),
        ("choose_partners", lambda targets, drawn, same_class: choose_partners(targets, drawn, same_class=True)),
    ],
)
def test_negative_controls_are_seen(name: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backgrounds, name, wrong)
    assert measured(64, 1) != account(seed=3)


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((2, 1, 3, 2), [[0, 1, 2, 3], [4, 5, 4, 7], [8, 9, 10, 11]]),  # left and above have as much: to the left
        ((0, 0, 2, 3), [[2, 3, 2, 3], [6, 7, 6, 7], [10, 11, 10, 11]]),  # right
        ((0, 2, 4, 3), [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]),  # above
        ((0, 0, 4, 1), [[8, 9, 10, 11], [4, 5, 6, 7], [8, 9, 10, 11]]),  # below
        ((0, 0, 4, 3), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),  # nothing is left to repeat
    ],
)
def test_the_largest_strip_is_repeated(box: tuple[int, ...], wanted: list[list[int]]) -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert remove_objects(image, torch.tensor([box]))[0, 0].tolist() == wanted


def test_boxes_in_whole_pixels_inside_the_image() -> None:
    boxes = torch.tensor([[0.2, 1.0, 3.1, 2.0], [-1.0, 0.0, 9.0, 9.0], [float("nan")] * 4])
    assert round_boxes(boxes, 6, 8).tolist() == [[0, 1, 4, 2], [0, 0, 8, 6], [0, 0, 0, 0]]


def test_partners_of_the_same_class_are_others_and_each_as_likely() -> None:
    targets, ids = torch.tensor([0, 1, 0, 2, 1, 2, 2]), torch.arange(7)
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(800):
        drawn = uniform(seed, "partners", 0, ids, 1)[:, 0]
        seen.update(enumerate(choose_partners(targets, drawn, same_class=True).tolist()))
    for i in range(7):
        others = [j for j in range(7) if targets[j] == targets[i] and j != i]
        assert {j for k, j in seen if k == i} == set(others)
        expected = 800 / len(others)
        # five standard errors of a count, at 24 counts
        assert all(abs(seen[i, j] - expected) < 5 * expected**0.5 for j in others)
    assert choose_partners(torch.arange(3), torch.zeros(3), same_class=True).tolist() == [-1, -1, -1]


def test_nobody_takes_part() -> None:
    inputs, targets, ids, _ = make_images()
    boxes, context = torch.full((N, 4), float("nan")), plain_context(CLASSES)
    sums = on_ranks(ExchangedBackgrounds(), WeighedPixels(), (inputs, targets, ids, boxes), context, 2)
    assert sums.means() == {}


def test_data_without_boxes_are_refused() -> None:
    data = DataSets(Spec(2, 3, 8, 8), Mock(), {"val": Mock()}, {"val": 0}, "", (), ())
    with pytest.raises(ConfigError, match=r"evaluators.backgrounds.splits: found val; its images have no boxes"):
        ExchangedBackgrounds().check_data(data)
    with pytest.raises(ConfigError, match=r"found minival; the data has val"):
        ExchangedBackgrounds(splits=("minival",)).check_data(data)
    ExchangedBackgrounds().check_data(replace(data, facts={"val": ("box",)}))

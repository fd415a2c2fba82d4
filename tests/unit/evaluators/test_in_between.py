"""Mixtures of pairs: which pairs, how they are mixed and what counts, as loops have it."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.evaluations import plain_context
from helpers.pretended_ranks import make_split, on_ranks
from paribus.core.errors import ConfigError
from paribus.core.streams import uniform
from paribus.evaluators import in_between
from paribus.evaluators.in_between import InBetween, box_size, cut_mix, draw_partners, gather_images

CLASSES, N, HEIGHT, WIDTH = 5, 41, 6, 9


class SumOfPixels:
    """Predicts (sum of the pixels) mod classes, of which sums of quarters of whole numbers are exact."""

    def predict(self, inputs: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(inputs.sum((1, 2, 3)).floor().long() % CLASSES, CLASSES).float()


def make_images() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(6)
    inputs = torch.randint(0, 8, (N, 2, HEIGHT, WIDTH), generator=random).float()
    return inputs, torch.randint(0, CLASSES, (N,), generator=random), torch.randperm(N, generator=random) + 1000


def draw(name: str, image: int, n: int, seed: int) -> list[float]:
    return uniform(seed, f"in_between.{name}", 0, torch.tensor([image]), n)[0].tolist()


def curves_by_loops(limit: int, seed: int) -> dict[str, list[float]]:
    inputs, targets, ids = make_images()
    rows = {int(i): k for k, i in enumerate(ids)}
    n = min(limit, N)
    chosen = sorted(int(ids[k * N // n]) for k in range(n))
    classes = {i: int(targets[rows[i]]) for i in chosen}
    found: dict[str, list[float]] = {"mixup": [], "cutmix": []}
    for kind, curve in found.items():
        for k in range(5):
            hits = 0
            for i in chosen:
                others = [j for c in range(CLASSES) for j in chosen if classes[j] == c != classes[i]]
                partner = others[int(draw("partner", i, 1, seed)[0] * len(others))]
                first, second = inputs[rows[i]].tolist(), inputs[rows[partner]].tolist()
                height, width = (round((1 - k / 4) ** 0.5 * side) for side in (HEIGHT, WIDTH))
                u, v = draw("box", i, 2, seed)
                top, left = int(u * (HEIGHT - height + 1)), int(v * (WIDTH - width + 1))
                total = 0.0
                for c in range(2):
                    for y in range(HEIGHT):
                        for x in range(WIDTH):
                            a, b = first[c][y][x], second[c][y][x]
                            is_cut = top <= y < top + height and left <= x < left + width
                            total += k / 4 * a + (1 - k / 4) * b if kind == "mixup" else b if is_cut else a
                hits += int(total) % CLASSES in (classes[i], classes[partner])
            curve.append(hits / len(chosen))
    return found


def check_against_loops(size: int, world: int, images: int = 20) -> None:
    evaluator = InBetween(limit=images, steps=4, seed=3, batch_size=size)
    context = plain_context(CLASSES)
    sums = on_ranks(evaluator, SumOfPixels(), make_images(), context, world)
    metrics, curves = sums.means(), curves_by_loops(images, seed=3)
    for kind in ("mixup", "cutmix"):
        assert evaluator.details(sums, context)[kind]["curve"]["y"] == curves[kind]
        assert metrics[f"val/in_between_{kind}"] == pytest.approx(sum(curves[kind]) / 5, rel=1e-12)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_as_loops_over_pairs_and_pixels(size: int, world: int) -> None:
    check_against_loops(size, world)


def test_a_limit_above_the_split_takes_all_of_it() -> None:
    check_against_loops(16, 2, images=1000)


def test_negative_controls_other_partners_and_other_boxes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "draw_partners": lambda targets, ids, seed: torch.arange(len(ids)).roll(1),
        "box_size": lambda height, width, share: (round((1 - share) * height), round((1 - share) * width)),
    }
    for name, made in wrong.items():
        with monkeypatch.context() as patched:
            patched.setattr(in_between, name, made)
            with pytest.raises(AssertionError):
                check_against_loops(64, 1)


def test_images_come_sorted_by_id_whatever_their_order() -> None:
    inputs, targets, ids = make_images()
    backwards = torch.arange(N - 1, -1, -1)
    one = gather_images(make_split(inputs, targets, ids, CLASSES)(7), lambda value: value)
    two = gather_images(
        make_split(inputs[backwards], targets[backwards], ids[backwards], CLASSES)(3), lambda value: value
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert one[2].tolist() == sorted(ids.tolist())


def test_partners_are_of_other_classes_and_each_as_likely() -> None:
    targets, ids = torch.tensor([0, 1, 0, 2, 1, 2, 2]), torch.arange(7)
    seen = Counter((i, j) for seed in range(800) for i, j in enumerate(draw_partners(targets, ids, seed).tolist()))
    for i in range(7):
        others = [j for j in range(7) if targets[j] != targets[i]]
        assert {j for k, j in seen if k == i} == set(others)
        expected = 800 / len(others)
        # five standard errors of a count, at 24 counts
        assert all(abs(seen[i, j] - expected) < 5 * expected**0.5 for j in others)


def test_one_class_alone_has_no_pairs_and_no_metric() -> None:
    inputs, _, ids = make_images()
    assert draw_partners(torch.zeros(4, dtype=torch.int64), torch.arange(4), 0).tolist() == [-1] * 4
    context, evaluator = plain_context(CLASSES), InBetween(steps=2)
    sums = on_ranks(evaluator, SumOfPixels(), (inputs, torch.zeros(N, dtype=torch.int64), ids), context, 2)
    assert sums.means() == {}
    assert evaluator.details(sums, context)["mixup"]["curve"]["y"] == []


def test_more_processes_than_images() -> None:
    few = tuple(part[:3] for part in make_images())
    one, four = (on_ranks(InBetween(), SumOfPixels(), few, plain_context(CLASSES), world) for world in (1, 4))
    assert one.means() == four.means()


def test_a_box_is_inside_the_image_of_its_size_and_anywhere() -> None:
    first, second = torch.zeros(500, 1, 6, 9), torch.ones(500, 1, 6, 9)
    box = box_size(6, 9, 0.75)
    assert box == (3, 4)  # half of 6, and of 9 to the even number
    drawn = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    mixed = cut_mix(first, second, box, drawn)[:, 0]
    assert mixed.sum((1, 2)).tolist() == [12] * 500
    corners = {tuple(divmod(int(m.flatten().argmax()), 9)) for m in mixed}
    assert corners == {(top, left) for top in range(4) for left in range(6)}
    assert torch.equal(cut_mix(first, second, box_size(6, 9, 0.0), drawn), second)
    assert torch.equal(cut_mix(first, second, box_size(6, 9, 1.0), drawn), first)


def test_the_curve_of_boxes_has_the_shares_that_came_out() -> None:
    evaluator, context = InBetween(steps=4), plain_context(CLASSES, side=4)
    sums = on_ranks(evaluator, SumOfPixels(), make_images(), context, 1)
    x = evaluator.details(sums, context)["cutmix"]["curve"]["x"]
    assert x == [0, 1 - 9 / 16, 1 - 9 / 16, 1 - 4 / 16, 1]


def test_two_classes_are_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"evaluators\.in_between: the data has 2 classes"):
        InBetween().check_method(SumOfPixels(), plain_context(2))
    InBetween().check_method(SumOfPixels(), replace(plain_context(3), sizes={"val": N}))

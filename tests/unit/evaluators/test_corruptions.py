"""The evaluator: which images are counted, what is reported, and that neither batches nor processes change it."""

from dataclasses import replace
from typing import Any

import PIL
import pytest
import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.sums import Sums
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators.corruption_kinds.corrupt import PAPER_KINDS, corrupt
from paribus.evaluators.corruptions import Corruptions
from paribus.methods.evaluated import PlainNetwork

N, SIDE, CLASSES = 37, 12, 7
CPU = torch.device("cpu")
PIXELS = (torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)) * 256).to(torch.uint8)
IDS = torch.arange(N) * 5 + 2
SHORT = ("gaussian_noise", "contrast", "jpeg_compression")


class OfThePixels(nn.Module):
    """A class that any change of a pixel may change: the sum of all grey levels, mod CLASSES."""

    def forward(self, inputs: Tensor) -> Tensor:
        levels = ((inputs * 0.25 + 0.5) * 255).round().long()
        return nn.functional.one_hot(levels.sum((1, 2, 3)) % CLASSES, CLASSES).float()


class Ready(PlainNetwork):
    def prepare_eval(self) -> None: ...


METHOD: Any = Ready(OfThePixels())
TARGETS = PIXELS.long().sum((1, 2, 3)) % CLASSES


def context(rank: int = 0, world: int = 1, channels: int = 3) -> EvaluationContext:
    place = DeviceContext(CPU, rank=rank, world=world)
    spec = Spec(CLASSES, channels, SIDE, SIDE)
    return EvaluationContext(spec, place, (0.5,) * channels, (0.25,) * channels, sizes={"val": N})


def splits(rank: int = 0, world: int = 1):
    first, last = N * rank // world, N * (rank + 1) // world

    def batches(size: int):
        for start in range(first, max(last, first + 1), size):
            here = slice(start, min(start + size, last))
            inputs = (PIXELS[here].float() / 255 - 0.5) / 0.25
            yield Batch(inputs, TARGETS[here], IDS[here], torch.arange(len(inputs)), len(inputs), CLASSES)

    return {"val": batches}


def expected(
    kinds: tuple[str, ...], severities: tuple[int, ...], chosen: list[int], seed: int
) -> dict[str, list[float]]:
    """For each kind the accuracy by severity, image by image."""
    out: dict[str, list[float]] = {}
    for kind in kinds:
        out[kind] = []
        for severity in severities:
            hits = 0
            for i in chosen:
                image = corrupt(kind, severity, PIXELS[i : i + 1], IDS[i : i + 1], seed)
                hits += int(image.long().sum()) % CLASSES == int(TARGETS[i])
            out[kind].append(hits / len(chosen))
    return out


@pytest.mark.parametrize("size", [1, 8, 512])
def test_metrics_and_curves_at_any_batch_size(size: int) -> None:
    evaluator = Corruptions(kinds=SHORT, severities=(1, 4), batch_size=size, seed=9)
    found = evaluate(METHOD, {"mine": evaluator}, splits(), context())
    curves = expected(SHORT, (1, 4), list(range(N)), 9)
    assert found.metrics == {
        "val/corrupted_acc": pytest.approx(sum(map(sum, curves.values())) / 6, abs=1e-12),
        **{f"val/corrupted_acc_{kind}": pytest.approx(sum(c) / 2, abs=1e-12) for kind, c in curves.items()},
    }
    assert set(found.metrics) == set(evaluator.keys)
    details = dict(found.details["mine"])
    assert details.pop("jpeg")["versions"]["Pillow"] == PIL.__version__
    assert {kind: curve["curve"]["y"] for kind, curve in details.items()} == curves
    assert details["contrast"]["curve"]["x"] == [1, 4]
    assert 0 < found.metrics["val/corrupted_acc"] < 1


def test_negative_control_another_seed_has_other_images() -> None:
    found = [
        evaluate(METHOD, {"mine": Corruptions(kinds=SHORT, seed=seed)}, splits(), context()).metrics for seed in (9, 10)
    ]
    assert found[0]["val/corrupted_acc_gaussian_noise"] != found[1]["val/corrupted_acc_gaussian_noise"]
    assert found[0]["val/corrupted_acc_contrast"] == found[1]["val/corrupted_acc_contrast"]


def reduced(evaluator: Corruptions, world: int) -> Sums:
    total = Sums()
    for rank in range(world):
        total = total + evaluator(METHOD, splits(rank, world), context(rank, world))
    return total


@pytest.mark.parametrize("limit", [None, 1, 10, 36, 37, 1000])
def test_equal_in_any_number_of_processes(limit: int | None) -> None:
    evaluator = Corruptions(kinds=SHORT, severities=(2,), batch_size=5, limit=limit)
    whole = reduced(evaluator, 1)
    chosen = [i * N // limit for i in range(limit)] if limit and limit < N else list(range(N))
    assert whole.tables["val/corrupted_images"] == len(chosen)
    curves = expected(SHORT, (2,), chosen, 0)
    assert whole.means()["val/corrupted_acc_gaussian_noise"] == curves["gaussian_noise"][0]
    for world in (2, 4, 40):
        parts = reduced(evaluator, world)
        assert parts.means() == whole.means(), world
        assert torch.equal(parts.tables["val/corrupted_hits"], whole.tables["val/corrupted_hits"])


def test_inputs_without_corruption_are_those_of_the_data() -> None:
    """The way from inputs to 8 bits and back changes none: at a share of 0 nothing is left to differ by."""
    seen: list[Tensor] = []

    class Keeps(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return torch.zeros(len(inputs), CLASSES)

    jpeg = Corruptions(kinds=("jpeg_compression",), severities=(1,))
    evaluate(Ready(Keeps()), {"mine": jpeg}, splits(), context())  # type: ignore[arg-type]
    exact = corrupt("jpeg_compression", 1, PIXELS, IDS, 0).float() / 255
    torch.testing.assert_close(seen[0], (exact - 0.5) / 0.25)


def test_grey_images() -> None:
    grey = [replace(b, inputs=b.inputs[:, :1]) for b in splits()["val"](64)]
    evaluator = Corruptions(severities=(3,))
    found = evaluate(METHOD, {"mine": evaluator}, {"val": lambda size: grey}, context(channels=1))
    assert set(found.metrics) == set(evaluator.keys)
    assert evaluator.kinds == PAPER_KINDS
    assert len(evaluator.keys) == 1 + len(PAPER_KINDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kinds": ("frost",)}, "frost is left out: it needs photographs of frost"),
        ({"kinds": ("spatter",)}, "spatter is left out: it needs OpenCV"),
        ({"kinds": ("gausian_noise",)}, r"there is no gausian_noise \(did you mean gaussian_noise"),
        ({"kinds": ()}, "should name one at least"),
        ({"kinds": ("fog", "fog")}, "fog is listed twice"),
        ({"severities": (0,)}, r"severities.*found 0"),
        ({"severities": (6,)}, r"severities.*found 6"),
        ({"severities": (3, 3)}, "3 is listed twice"),
        ({"limit": 0}, "limit: found 0"),
        ({"at": "never"}, "at: found 'never'"),
    ],
)
def test_mistakes_are_told_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        instantiate(Corruptions, values, "evaluators.corruptions")
    assert "\n" not in str(told.value)


def test_what_does_not_fit_is_told_before_training() -> None:
    with pytest.raises(ConfigError, match="found images of 4 channels"):
        check_method(METHOD, {"mine": Corruptions()}, context(channels=4))
    limited = {"mine": Corruptions(splits=("train_sample",), limit=5)}
    with pytest.raises(ConfigError, match="limit: found 5; how many images train_sample has"):
        check_method(METHOD, limited, context())
    with pytest.raises(ConfigError, match="needs a method with predict"):
        check_method(object(), {"mine": Corruptions()}, context())
    check_method(METHOD, {"mine": Corruptions(limit=5)}, context())

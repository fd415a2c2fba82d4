"""FID and its like: on 8-bit images, at any batch size, over any number of processes, with the name of the features."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from helpers.evaluations import plain_context
from helpers.generating import NoisyClasses, PickedFeatures
from helpers.pretended_ranks import make_split, on_ranks
from paribus.core.batch import Batch
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, call_evaluator
from paribus.core.sums import Sums
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators.distances import frechet_distance, kernel_distance, precision_and_recall
from paribus.evaluators.fid import Fid

N = 60
IDS = torch.randperm(N, generator=torch.Generator().manual_seed(1))  # as a loader may have them
REAL = NoisyClasses().sample(IDS, seed=7) * 0.9
SPLIT = (REAL, IDS % 10, IDS)
METHOD = NoisyClasses()
CONTEXT = replace(plain_context(10, side=8), sizes={"val": N})


def find(evaluator: Fid, method: Any = METHOD, world: int = 1) -> tuple[dict[str, float], Sums]:
    sums = on_ranks(evaluator, method, SPLIT, CONTEXT, world)
    return evaluator.derived(sums, CONTEXT), sums


def features_of(images: Tensor) -> Tensor:
    return PickedFeatures()(CONTEXT.spec)((images.clamp(0, 1) * 255).round() / 255)


def test_they_are_the_distances_of_the_features_of_images_of_8_bits() -> None:
    found, _ = find(Fid(features=PickedFeatures(), seed=3))
    real, generated = features_of(REAL[IDS.argsort()]), features_of(NoisyClasses().sample(torch.arange(N), seed=3))
    precision, recall = precision_and_recall(real, generated)
    assert found == {
        "val/fid": frechet_distance(real, generated),
        "val/kid": kernel_distance(real, generated),
        "val/precision": precision,
        "val/recall": recall,
    }
    assert set(found) == set(Fid(features=PickedFeatures()).keys)


@pytest.mark.parametrize(("size", "world"), [(7, 1), (64, 1), (7, 2), (7, 4), (1, 9)])
def test_no_batch_size_and_no_number_of_processes_changes_a_bit(size: int, world: int) -> None:
    expected, _ = find(Fid(features=PickedFeatures(), images=45))
    assert find(Fid(features=PickedFeatures(), images=45, batch_size=size), world=world)[0] == expected
    assert find(Fid(features=PickedFeatures(), images=44, batch_size=size), world=world)[0] != expected


def test_more_processes_than_images_have_empty_shares() -> None:
    evaluator = Fid(features=PickedFeatures(), images=5)
    assert find(evaluator, world=9)[0] == find(Fid(features=PickedFeatures(), images=5))[0]


def test_each_id_is_generated_once_as_many_as_the_split_has_or_as_asked_for() -> None:
    for images, expected in ((None, N), (13, 13)):
        asked: list[int] = []
        find(Fid(features=PickedFeatures(), images=images, batch_size=4), NoisyClasses(calls=(asked,)))
        assert asked == list(range(expected))


def test_generated_values_between_two_levels_do_not_tell_them_from_real_images() -> None:
    """The real images, but for a part of a level that no file could hold."""
    real = NoisyClasses().sample(IDS, seed=0)
    context = replace(CONTEXT, sizes={"val": N})
    splits = {"val": make_split(real, IDS % 10, IDS, 10)}
    for shift, apart in ((0.3, False), (0.7, True)):  # the latter is the next level
        evaluator = Fid(features=PickedFeatures())
        sums = call_evaluator(evaluator, NoisyClasses(shift=shift), splits, context).all_reduce(lambda value: value)
        found = evaluator.derived(sums, context)
        assert (found["val/fid"] > 1e-6) is apart
        assert found["val/precision"] == found["val/recall"] == 1


def test_the_network_is_made_and_real_images_are_read_once_a_run() -> None:
    made: list[Any] = []
    passes: list[int] = []

    def counted(size: int) -> Iterator[Batch]:
        passes.append(size)
        yield from make_split(*SPLIT, 10)(size)

    evaluator = Fid(features=PickedFeatures(made=(made,)))
    check_method(NoisyClasses(), {"fid": evaluator}, CONTEXT)
    found = [evaluate(NoisyClasses(shift=k), {"fid": evaluator}, {"val": counted}, CONTEXT) for k in (0, 5)]  # type: ignore[arg-type]
    assert (len(made), len(passes)) == (1, 1)
    assert found[0].metrics != found[1].metrics
    fresh = Fid(features=PickedFeatures())
    again = evaluate(NoisyClasses(shift=5), {"fid": fresh}, {"val": counted}, CONTEXT)  # type: ignore[arg-type]
    assert again.metrics == found[1].metrics


class Averaged(NoisyClasses):
    @property
    def without_ema(self) -> NoisyClasses:
        return NoisyClasses(shift=5)


def test_of_averaged_weights_the_latest_stand_beside() -> None:
    def judge(method: Any) -> dict[str, float]:
        split = {"val": make_split(*SPLIT, 10)}
        return evaluate(method, {"fid": Fid(features=PickedFeatures())}, split, CONTEXT).metrics

    plain, latest = judge(NoisyClasses()), judge(NoisyClasses(shift=5))
    assert plain["val/fid"] != latest["val/fid"]
    assert judge(Averaged()) == plain | {f"{key}_without_ema": value for key, value in latest.items()}


def test_details_say_on_whose_features_and_of_how_many_images() -> None:
    evaluator = Fid(features=PickedFeatures(label="digits-s0 (sha256 abc)"), images=30)
    _, sums = find(evaluator)
    said = evaluator.details(sums, CONTEXT)["features"]["text"]["text"]
    assert "on features of digits-s0 (sha256 abc): 30 generated images against 60 of val" in said
    assert "Inception" not in said


class NaN(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) * torch.nan


def test_features_that_are_no_numbers_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PickedFeatures, "__call__", lambda self, spec: NaN())
    with pytest.raises(RunFailed, match="features of real images are not finite"):
        find(Fid(features=PickedFeatures()))


@pytest.mark.parametrize(
    ("settings", "sizes", "said"),
    [
        ({"images": 3}, {"val": N}, r"images: found 3 images; the nearest 3 others of each"),
        ({}, {"val": 2}, r"found 2 images"),
        ({"images": 50}, {"val": 2}, r"split: found 2 images"),
        ({}, {}, r"images: how many val has is not known; give a number"),
    ],
)
def test_too_few_images_are_told_before_training(settings: Any, sizes: dict[str, int], said: str) -> None:
    context: EvaluationContext = replace(CONTEXT, sizes=sizes)
    with pytest.raises(ConfigError, match=said):
        check_method(NoisyClasses(), {"fid": Fid(features=PickedFeatures(), **settings)}, context)


@pytest.mark.parametrize("images", [1, 1_000_001])
def test_a_number_of_images_that_memory_would_not_hold_or_that_has_no_spread_is_refused(images: int) -> None:
    with pytest.raises(ValidationError, match="images"):
        Fid(features=PickedFeatures(), images=images)


def test_a_method_that_generates_nothing_is_told_before_training() -> None:
    with pytest.raises(ConfigError, match=r"evaluators\.fid: needs a method with conditional, sample"):
        check_method(object(), {"fid": Fid(features=PickedFeatures())}, CONTEXT)

"""Erasing what a map points at: which pixels go, the counts, and that random ones belong to the image."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import DeviceContext, Spec
from paribus.core.streams import uniform
from paribus.engine.evaluate import evaluate
from paribus.evaluators.erased import ErasedPixels, erase
from paribus.methods.evaluated import PlainNetwork


def test_the_most_important_pixels_go_in_every_channel_and_the_first_of_equal_ones() -> None:
    inputs = torch.arange(1.0, 9).view(1, 2, 2, 2)
    importance = torch.tensor([[[0.5, 0.9], [0.5, 0.1]]])
    assert erase(inputs, importance, 2).tolist() == [[[[0, 0], [3, 4]], [[0, 0], [7, 8]]]]
    assert torch.equal(erase(inputs, importance, 0), inputs)
    assert not erase(inputs, importance, 4).any()
    assert inputs.all(), "the inputs stay as they are"


class SumOfHalves(nn.Module):
    """Class 0 if the upper half is brighter. Its map is the brightness; sign −1 turns it round."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack((inputs[:, 0, :4].sum((1, 2)), inputs[:, 0, 4:].sum((1, 2))), 1)

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        upper = torch.arange(8)[None, :, None] < 4
        shown = torch.where(upper == (classes == 0)[:, None, None], inputs[:, 0], -inputs[:, 0])
        return self.sign * shown


class Method(PlainNetwork):
    def prepare_eval(self) -> None: ...


N = 40
INPUTS = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
INPUTS[::2, :, :4] += 0.3
TARGETS = torch.arange(N) % 2


def split(batch_size: int) -> Iterator[Batch]:
    for ids in torch.arange(N).split(batch_size):
        yield Batch(INPUTS[ids], TARGETS[ids], ids + 100, ids, len(ids), 2)


def measure(sign: float = 1.0, **settings: object) -> dict[str, float]:
    context = EvaluationContext(Spec(2, 1, 8, 8), DeviceContext(torch.device("cpu")), (0.0,), (1.0,), sizes={"val": N})
    evaluators = {"erased": ErasedPixels(percent=(10, 20), **settings)}  # type: ignore[arg-type]
    return evaluate(Method(SumOfHalves(sign)), evaluators, {"val": split}, context).metrics  # type: ignore[arg-type]


def right(inputs: Tensor) -> int:
    return int((SumOfHalves(1.0)(inputs).argmax(1) == TARGETS).sum())


def test_metrics_are_counts_of_images_and_their_ratios() -> None:
    found, net = measure(), SumOfHalves(1.0)
    maps = net.attribute(INPUTS, net(INPUTS).argmax(1)).detach()
    drawn = uniform(0, "erased", 0, torch.arange(N) + 100, 64).view(N, 8, 8)
    for k, count in ((10, 6), (20, 12)):  # of 64 pixels, rounded down
        most, any_ = right(erase(INPUTS, maps, count)), right(erase(INPUTS, drawn, count))
        assert found[f"val/erased_{k}"] == most / N
        assert found[f"val/erased_{k}_random"] == any_ / N
        assert found[f"val/erased_{k}_ratio"] == most / any_
        assert found[f"val/erased_{k}_kept"] == most / right(INPUTS)
    assert found == measure(batch_size=7)
    assert set(ErasedPixels(percent=(10, 20)).keys) <= set(found)


def test_negative_control_a_map_that_points_elsewhere_has_a_higher_ratio() -> None:
    assert measure()["val/erased_20_ratio"] < 0.9 < 1 < measure(sign=-1.0)["val/erased_20_ratio"]


def test_random_pixels_belong_to_the_image_and_the_seed() -> None:
    one = measure()
    assert measure(seed=1)["val/erased_20_random"] != one["val/erased_20_random"]
    assert measure(seed=1)["val/erased_20"] == one["val/erased_20"]
    assert measure(limit=20)["val/erased_20"] != one["val/erased_20"]


@pytest.mark.parametrize("percent", [(), (0,), (100,), (20, 10), (10, 10)])
def test_percentages_that_make_no_sense_are_refused(percent: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rising whole numbers"):
        ErasedPixels(percent=percent)

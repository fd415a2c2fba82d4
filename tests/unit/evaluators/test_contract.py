"""What evaluators may be: means, derived metrics, details, at the end alone, and what they may ask of a method."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from helpers.class_counts import ClassCounts
from helpers.evaluations import plain_context
from paribus.core.batch import Batch
from paribus.core.capabilities import HasNetwork
from paribus.core.errors import ConfigError
from paribus.core.sums import Sums, gather_samples, metric_sums
from paribus.engine.evaluate import check_method, evaluate
from paribus.evaluators.accuracy import Accuracy
from paribus.methods.evaluated import PlainNetwork

N, CLASSES = 23, 7


class Averaging(PlainNetwork):
    """A method whose latest weights predict otherwise than their average."""

    def __init__(self, model: nn.Module, latest: nn.Module) -> None:
        super().__init__(model)
        object.__setattr__(self, "without_ema", PlainNetwork(latest))

    def prepare_eval(self) -> None: ...


class Plus(nn.Module):
    """Predicts class (value of the first pixel + shift) mod CLASSES."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.one_hot((inputs[:, 0, 0, 0].long() + self.shift) % CLASSES, CLASSES).float()


def batches(size: int):
    ids = torch.randperm(N, generator=torch.Generator().manual_seed(1))  # as a loader may have them
    for part in ids.split(size):
        yield Batch(part[:, None, None, None].float(), part % 3, part, part, len(part), CLASSES)


METHOD = Averaging(Plus(0), Plus(1))


@pytest.mark.parametrize("size", [1, 5, 64])
def test_means_derived_metrics_and_details_at_any_batch_size(size: int) -> None:
    found = evaluate(METHOD, {"mine": ClassCounts(batch_size=size)}, {"val": batches}, plain_context(CLASSES))  # type: ignore[arg-type]
    hits = sum(i % CLASSES == i % 3 for i in range(N)) / N
    assert found.metrics["val/hits"] == hits
    assert found.metrics["val/classes"] == CLASSES
    assert found.metrics["val/last"] == (N - 1) % CLASSES
    assert found.metrics["val/last_without_ema"] == N % CLASSES
    assert found.details == {"mine": {"counts": {"matrix": [[4, 4, 3, 3, 3, 3, 3]]}}}


def test_what_runs_at_the_end_runs_there_alone_and_once() -> None:
    evaluators = {"accuracy": Accuracy(), "mine": ClassCounts(at="end")}
    early = evaluate(METHOD, evaluators, {"val": batches}, plain_context(CLASSES), at_end=False)  # type: ignore[arg-type]
    late = evaluate(METHOD, evaluators, {"val": batches}, plain_context(CLASSES))  # type: ignore[arg-type]
    assert {k.removesuffix("_without_ema") for k in early.metrics} == {"val/acc1", "val/acc5", "val/loss"}
    assert late.metrics.keys() - early.metrics.keys() == {"val/hits", "val/classes", "val/last"}


@dataclass(frozen=True)
class NeedsNetwork:
    needs: ClassVar[tuple[type, ...]] = (HasNetwork,)

    def __call__(self, method: Any, splits: Any) -> Sums:
        return Sums()

    def check_method(self, method: Any, context: Any) -> None:
        if not list(method.eval_model.parameters()):
            raise ConfigError("evaluators.mine: the network has no parameters")


def test_what_a_method_lacks_is_told_before_training() -> None:
    with pytest.raises(ConfigError, match=r"evaluators\.mine: needs a method with eval_model; object has none"):
        check_method(object(), {"mine": NeedsNetwork()}, plain_context(CLASSES))
    with pytest.raises(ConfigError, match="has no parameters"):
        check_method(METHOD, {"mine": NeedsNetwork()}, plain_context(CLASSES))
    check_method(PlainNetwork(nn.Linear(1, 1)), {"mine": NeedsNetwork()}, plain_context(CLASSES))


def test_a_metric_of_no_sample_is_left_out() -> None:
    sums = metric_sums("a", torch.zeros((), dtype=torch.int64), 0) + metric_sums("b", torch.ones(()), 2)
    assert sums.means() == {"b": 0.5}


def test_samples_come_in_the_order_of_their_ids_from_all_processes() -> None:
    ids = torch.tensor([5, 0, 3])
    mine = gather_samples("x", ids[:1], ids[:1] * 2.0) + gather_samples("x", ids[1:], ids[1:] * 2.0)
    others = iter([torch.tensor([4, 1]), torch.tensor([8.0, 2.0])])
    got = mine.all_reduce(lambda value: value, lambda value: torch.cat([value, next(others)]))
    assert got.gathered("x").tolist() == [0, 2, 6, 8, 10]
    alone = mine.all_reduce(lambda value: value)
    assert alone.gathered("x").tolist() == [0, 6, 10]


def test_pixels_and_inputs_are_each_others_inverse() -> None:
    context = plain_context(CLASSES)
    object.__setattr__(context, "mean", (0.5, 0.25, 0.1))
    object.__setattr__(context, "std", (0.2, 0.5, 1.0))
    inputs = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 3, 2, 2)
    assert context.to_pixels(inputs)[0, 1, 0, 0] == inputs[0, 1, 0, 0] * 0.5 + 0.25
    torch.testing.assert_close(context.to_inputs(context.to_pixels(inputs)), inputs)

"""Evaluators on one split share one pass of the network, and get the numbers that they would get alone."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.evaluations import LogitTable, plain_context, table_split
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, metric_sums
from paribus.engine.evaluate import evaluate
from paribus.engine.shared_predictions import SharedPredictions
from paribus.evaluators.accuracy import Accuracy
from paribus.evaluators.calibration import Calibration
from paribus.evaluators.per_class import PerClass

N, CLASSES, SIZE = 23, 7, 5
BATCHES = 5
CONTEXT = plain_context(CLASSES)
TARGETS = torch.arange(N) % CLASSES
SPLITS = {"val": table_split(torch.arange(N), TARGETS, CLASSES)}


def table(name: int = 0) -> LogitTable:
    return LogitTable(torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(name)))


BATTERY: dict[str, Any] = {
    "accuracy": Accuracy(batch_size=SIZE),
    "calibration": Calibration(batch_size=SIZE, temperature_split=None),
    "per_class": PerClass(batch_size=SIZE),
}


def test_one_pass_for_all_and_the_numbers_of_each_alone() -> None:
    method, alone = table(), dict[str, float]()
    together = evaluate(method, BATTERY, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]
    assert method.calls == BATCHES
    for name, evaluator in BATTERY.items():
        alone |= evaluate(method, {name: evaluator}, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]
    assert method.calls == 4 * BATCHES
    assert together == alone


def test_other_batch_sizes_have_passes_of_their_own() -> None:
    method = table()
    evaluate(method, {**BATTERY, "more": Accuracy(batch_size=N)}, SPLITS, CONTEXT)  # type: ignore[arg-type]
    assert method.calls == BATCHES + 1


class WithAverage(LogitTable):
    def __init__(self, latest: LogitTable) -> None:
        super().__init__(table().logits)
        self.without_ema = latest


def test_averaged_and_latest_weights_are_kept_apart() -> None:
    latest = table(1)
    method = WithAverage(latest)
    got = evaluate(method, BATTERY, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]
    assert (method.calls, latest.calls) == (BATCHES, BATCHES)
    of_latest = evaluate(table(1), BATTERY, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]
    assert {key: got[f"{key}_without_ema"] for key in of_latest} == of_latest
    assert got["val/loss"] != got["val/loss_without_ema"]


@dataclass(frozen=True)
class Careless:
    """Changes what it is given, in place, and predicts other things too."""

    def __call__(self, method: Any, splits: Any) -> Sums:
        assert isinstance(method, Predicts)
        sums = Sums()
        for batch in splits["val"](SIZE):
            first = method.predict(batch.inputs)
            kept = first.clone()
            first.zero_()
            assert torch.equal(method.predict(batch.inputs.clone()), kept)
            batch.inputs.add_(1).fmod_(N)
            changed = method.predict(batch.inputs)
            sums += metric_sums("val/changed", (changed != kept).all(1).sum(), len(kept))
            method.predict(batch.inputs).zero_()
        return sums


def test_what_is_not_the_split_as_it_is_is_computed() -> None:
    method = table()
    evaluators = {"first": Careless(), **BATTERY, "second": Careless()}
    got = evaluate(method, evaluators, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]
    assert got["val/changed"] == 1.0
    assert method.calls == BATCHES * (1 + 2 * 3)
    assert {k: v for k, v in got.items() if k != "val/changed"} == evaluate(table(), BATTERY, SPLITS, CONTEXT).metrics  # type: ignore[arg-type]


class Slotted:
    __slots__ = ("calls", "logits")

    def __init__(self) -> None:
        self.logits, self.calls = table().logits, 0

    prepare_eval = LogitTable.prepare_eval
    predict = LogitTable.predict


class Trainable(LogitTable):
    def predict(self, inputs: Tensor) -> Tensor:
        return super().predict(inputs).requires_grad_()


@pytest.mark.parametrize("method", [Slotted(), Trainable(table().logits)], ids=["slots", "with gradients"])
def test_a_method_whose_predictions_cannot_be_kept_is_asked_each_time(method: Any) -> None:
    got = evaluate(method, BATTERY, SPLITS, CONTEXT).metrics
    assert method.calls == 3 * BATCHES
    assert got == pytest.approx(evaluate(table(), BATTERY, SPLITS, CONTEXT).metrics)  # type: ignore[arg-type]


def test_the_method_itself_stays_as_it_is_and_keeps_its_other_capabilities() -> None:
    method, shared = table(), SharedPredictions()
    twin = shared.share(method)
    assert "predict" not in vars(method)
    assert type(twin) is LogitTable
    assert twin.logits is method.logits
    assert shared.share(None) is None


def test_two_walks_through_one_split_at_once() -> None:
    method, shared = table(), SharedPredictions()
    twin, splits = shared.share(method), shared.follow(SPLITS)
    walks = zip(splits["val"](SIZE), list(splits["val"](SIZE))[::-1], strict=True)
    for one, other in walks:
        assert torch.equal(twin.predict(one.inputs), method.logits[one.ids])
        assert torch.equal(twin.predict(other.inputs), method.logits[other.ids])

"""Calibration: as torchmetrics and scikit-learn have it, at any batch size and over any number of processes."""

import math
from typing import Any

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from helpers.evaluations import LogitTable, plain_context, table_split, total_over_ranks
from helpers.trainings import recipe_of
from paribus.core.errors import ConfigError
from paribus.core.streams import stream
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.evaluators.calibration import TEMPERATURES, Calibration, describe_bins, fit_temperature, score_samples
from paribus.recipe.build import build_evaluators, make_device_context

N, HELD_OUT, CLASSES = 311, 97, 7
G = stream(0, "calibration")
LOGITS = 2.5 * torch.randn(N + HELD_OUT, CLASSES, generator=G)
TARGETS = torch.multinomial((LOGITS / 1.7).softmax(1), 1, generator=G)[:, 0]  # so the best temperature is about 1.7
ORDER = torch.randperm(N, generator=G)  # as a loader may have them
VAL, MINIVAL = (ORDER, TARGETS[ORDER]), (torch.arange(N, N + HELD_OUT), TARGETS[N:])
CONTEXT = plain_context(CLASSES)


def shares(world: int) -> list[Any]:
    return [
        {name: table_split(*part, CLASSES, rank, world) for name, part in (("val", VAL), ("minival", MINIVAL))}
        for rank in range(world)
    ]


def found(size: int = 64, world: int = 1, logits: torch.Tensor = LOGITS, **keys: Any) -> dict[str, float]:
    evaluator = Calibration(batch_size=size, **keys)
    return evaluator.derived(total_over_ranks(evaluator, LogitTable(logits), shares(world), CONTEXT), CONTEXT)


def oracle(logits: torch.Tensor, targets: torch.Tensor, bins: int = 15) -> dict[str, float]:
    p = logits.double().softmax(1)
    ece = multiclass_calibration_error(p, targets, CLASSES, n_bins=bins)
    labels = range(CLASSES)
    brier = brier_score_loss(targets.numpy(), p.numpy(), labels=labels, scale_by_half=False)
    return {"ece": float(ece), "nll": log_loss(targets.numpy(), p.numpy(), labels=labels), "brier": brier}


def best_temperature() -> float:
    """By another method: a bounded search on scikit-learn's log loss."""

    def loss(log_t: float) -> float:
        return log_loss(TARGETS[N:].numpy(), (LOGITS[N:].double() / math.exp(log_t)).softmax(1).numpy())

    return math.exp(minimize_scalar(loss, bounds=(-1, 2), options={"xatol": 1e-10}).x)


def check(got: dict[str, float], bins: int = 15) -> None:
    temperature = best_temperature()
    assert got["val/temperature"] == pytest.approx(temperature, rel=1e-6)
    for suffix, divided in (("", LOGITS[:N]), ("_scaled", LOGITS[:N].double() / temperature)):
        for name, value in oracle(divided, TARGETS[:N], bins).items():
            assert got[f"val/{name}{suffix}"] == pytest.approx(value, abs=1e-6), name + suffix


def test_as_torchmetrics_and_scikit_learn_have_it() -> None:
    got = found()
    assert set(got) == set(Calibration().keys)
    check(got)
    assert 1.3 < got["val/temperature"] < 2.2
    assert got["val/nll_scaled"] < got["val/nll"]


def test_negative_control_other_bins_and_other_scores_are_seen() -> None:
    with pytest.raises(AssertionError, match="ece"):
        check(found(bins=14))
    with pytest.raises(AssertionError):
        check(found(logits=LOGITS * 1.0001))


@pytest.mark.parametrize(("size", "world"), [(1, 1), (7, 1), (7, 2), (64, 2), (7, 4), (1, 4)])
def test_equal_to_the_bit_at_any_batch_size_and_over_any_processes(size: int, world: int) -> None:
    assert found(size, world) == found(400)


def test_the_temperature_knows_nothing_of_the_split_that_is_measured() -> None:
    others = LOGITS.clone()
    others[:N] *= 3
    assert found(logits=others)["val/temperature"] == found()["val/temperature"]
    others[N:] *= 3
    assert found(logits=others)["val/temperature"] == pytest.approx(3 * found()["val/temperature"])


def test_without_a_temperature_and_on_its_own_split() -> None:
    assert set(found(temperature_split=None)) == {"val/ece", "val/nll", "val/brier"}
    both = found(splits=("val", "minival"))
    assert "minival/ece" in both
    assert not any(key.startswith("minival") and ("scaled" in key or "temp" in key) for key in both)
    assert set(both) == set(Calibration(splits=("val", "minival")).keys)
    with pytest.raises(ValueError, match="val is what is measured"):
        Calibration(temperature_split="val")


@pytest.mark.parametrize(("sign", "end"), [(1.0, 0), (-1.0, 1)])
def test_a_temperature_stays_in_its_range(sign: float, end: int) -> None:
    targets = torch.arange(30) % 3
    right = sign * torch.eye(3)[targets]  # all right: the surer the better; all wrong: the less sure
    assert fit_temperature(right, targets) == TEMPERATURES[end]


def test_bins_by_a_straight_line_account_with_values_on_their_edges() -> None:
    p = torch.tensor([0.5, 0.6, 0.75, 0.75, 0.9, 1.0], dtype=torch.float64)
    logits = torch.stack((p.log(), (1 - p).log().clamp(min=-800)), 1)
    logits[[0, 2, 3]] = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    samples = score_samples(logits, torch.tensor([0, 1, 0, 1, 0, 0]))
    samples[2:4, 0] = 0.75  # on an edge exactly, whatever exp and log make of it
    got = describe_bins(samples, 4)
    assert got["edges"] == [0, 0.25, 0.5, 0.75, 1]
    assert got["counts"] == [0, 1, 3, 2]  # an edge belongs to the bin below
    assert got["accuracy"] == [None, 1.0, pytest.approx(1 / 3), 1.0]
    assert got["confidence"] == [None, 0.5, pytest.approx(0.7), pytest.approx(0.95)]


def test_the_diagram_has_what_the_error_is_made_of() -> None:
    splits = shares(1)[0]
    findings = evaluate(LogitTable(LOGITS), {"mine": Calibration()}, splits, CONTEXT)  # type: ignore[arg-type]
    assert set(findings.details["mine"]) == {"val", "val_scaled"}
    for suffix in ("", "_scaled"):
        bins = findings.details["mine"]["val" + suffix]["reliability"]
        gaps = zip(bins["counts"], bins["accuracy"], bins["confidence"], strict=True)
        ece = sum(n / N * abs(a - c) for n, a, c in gaps if n)
        assert findings.metrics[f"val/ece{suffix}"] == pytest.approx(ece, abs=1e-12)


def test_scores_that_are_nan_are_not_hidden() -> None:
    broken = LOGITS.clone()
    broken[[3, N + 3]] = math.nan
    got = found(logits=broken)
    assert all(math.isnan(got[key]) for key in ("val/ece", "val/nll", "val/brier", "val/temperature"))


def test_data_without_the_split_are_told_before_training() -> None:
    def built(*overrides: str) -> dict[str, Any]:
        recipe = recipe_of("experiment=smoke", "evaluators=[accuracy,calibration]", "data.size=8", *overrides)
        data = recipe.data(make_device_context(recipe, torch.device("cpu"), World(0, 1, 0, 1)))
        return build_evaluators(recipe, data)

    with pytest.raises(ConfigError) as told:
        built()
    assert "evaluators.calibration.temperature_split: found minival; the data has val, train_sample" in str(told.value)
    assert "data.minival=N holds out" in str(told.value)
    assert "evaluators.calibration.temperature_split=null does without" in str(told.value)
    assert set(built("data.minival=20")) == {"accuracy", "calibration"}
    assert set(built("evaluators.calibration.temperature_split=null")) == {"accuracy", "calibration"}

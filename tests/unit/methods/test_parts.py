"""A method says what it trains (`parts`): one network, two, or none of ours; who asks for it gets all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.trainings import recipe_of, workbench
from helpers.two_networks import TwoNetworks
from paribus.conformance import battery
from paribus.conformance.trainings import TrainingResult, Trial, collect_weights, make_subject
from paribus.core.capabilities import HasParts, list_networks, list_parts, trained_parameters
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.engine.receipt import gradient_norm
from paribus.methods.distilled import DistilledTraining
from paribus.models.macs import count_macs
from paribus.runs.describe import describe_optimizer, measure_network_size

SMOKE = ("experiment=smoke", "packages=[helpers]", "method._target_=helpers.two_networks.Pair")


def built(*overrides: str) -> tuple[Any, Any]:
    recipe = recipe_of(*overrides)
    data, method, _ = workbench(recipe)
    method.train_step(data.loader(recipe.batch_size, 0).batch(0), Progress(0, 10, 0, 8))
    return data, method


def test_the_supervised_method_has_one() -> None:
    _, method = built("experiment=smoke", "optimizer=adamw")
    assert isinstance(method, HasParts)
    (part,) = list_parts(method).values()
    assert part.network is method.model
    assert part.optimizer is method.optimizer
    assert [g.names for g in part.groups] == [g.names for g in method.groups]
    assert set(method.state_dict()) == {"model", "optimizer", "scaler"}


def test_a_method_of_two_networks_is_counted_and_described_whole() -> None:
    data, method = built(*SMOKE)
    assert isinstance(method, TwoNetworks)
    sizes = [sum(p.numel() for p in network.parameters()) for network in list_networks(method).values()]
    assert len(sizes) == 2
    size = measure_network_size(method, data.spec)
    assert size.parameters == sum(sizes)
    assert size.macs == sum(count_macs(network, data.spec) for network in list_networks(method).values())
    assert describe_optimizer(method) == describe_optimizer(
        built("experiment=smoke")[1]
    )  # both have the same, said once
    method._pair["second"] = replace(method._pair["second"], optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters()))
    assert describe_optimizer(method).endswith(" and SGD")


def test_what_cannot_be_counted_is_named() -> None:
    class Noise(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.view(1, 2)

    parts = {"": SimpleNamespace(network=nn.Flatten()), "generator": SimpleNamespace(network=Noise())}
    found = measure_network_size(SimpleNamespace(parts=lambda: parts), Spec(10, 3, 8, 8))  # type: ignore[arg-type]
    assert found.macs == "not counted (generator: RuntimeError)"


def test_the_norm_is_over_the_gradients_of_all_networks() -> None:
    _, method = built(*SMOKE)
    each = [[p.grad for p in network.parameters()] for network in list_networks(method).values()]
    norms = [torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])) for gradients in each]
    found = gradient_norm(method)
    assert found == pytest.approx(float(torch.stack(norms).norm()))
    assert found > max(map(float, norms))


def test_a_users_method_without_parts_goes_on_working() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters())
    old = SimpleNamespace(model=model, optimizer=optimizer)
    assert list_parts(old)[""].network is model
    assert list_parts(old)[""].groups == ()
    assert list_networks(SimpleNamespace(model=model)) == {"": model}
    assert list_parts(SimpleNamespace(model=model)) == {} == list_networks(object())
    assert describe_optimizer(SimpleNamespace(optimizer=optimizer)) == "SGD"  # type: ignore[arg-type]
    assert describe_optimizer(object()) == "object"  # type: ignore[arg-type]
    assert trained_parameters(old) is None
    assert gradient_norm(old) is None
    assert trained_parameters(SimpleNamespace(parameters=model.parameters)) is not None


def test_distilled_training_has_the_students_part_and_its_norm_in_the_receipt() -> None:
    student = built("experiment=smoke")[1]
    distilled = DistilledTraining.__new__(DistilledTraining)
    distilled._student = student
    assert list_parts(distilled) == student.parts()
    assert gradient_norm(distilled) == gradient_norm(student) > 0


def pair_subject(*more: str) -> Trial:
    return make_subject((), (*SMOKE, *more))


def test_the_battery_looks_at_both_networks(tmp_path: Path) -> None:
    assert battery.check_parameters(pair_subject(), tmp_path).startswith("12 tensors")
    with pytest.raises(battery.CheckFailed, match=r"without a gradient in three steps: second\."):
        battery.check_parameters(pair_subject("+method.idle=true"), tmp_path)


@dataclass(frozen=True)
class _Swap:
    """A subject whose baseline is the same recipe under the supervised method."""

    subject: Trial
    techniques: tuple[str, ...] = ("pair",)
    config_dir: None = None

    @property
    def baseline(self) -> Trial:
        return make_subject((), ("experiment=smoke",))


def neutral(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *settings: str) -> str:
    """check_neutral of the pair, whose overlay would say that `weight=0` is neutral."""
    rules = {"overlays": {"pair": {"check": {"neutral": {"+method.weight": 0.0}}}}}
    monkeypatch.setattr(battery, "compose_config", lambda *_: rules)
    plain = battery.train_subject

    def train(subject: Any, runs: Path, *more: str) -> TrainingResult:
        return plain(subject if isinstance(subject, Trial) else pair_subject(*settings), runs, *more)

    monkeypatch.setattr(battery, "train_subject", train)
    return battery.check_neutral(_Swap(pair_subject()), tmp_path)  # type: ignore[arg-type]


def test_a_neutral_method_may_have_more_weights_and_log_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the baseline, bit for bit" in neutral(monkeypatch, tmp_path)


def test_negative_control_a_method_that_is_not_neutral_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(battery.CheckFailed, match="it is not the baseline bit for bit, first"):
        neutral(monkeypatch, tmp_path, "+method.shift=1.0e-3")


def result(weights: Mapping[str, float], losses: Mapping[tuple[int, str], float], norm: float) -> TrainingResult:
    events = [{"step": step, "values": {name: value, "time/x": value}} for (step, name), value in losses.items()]
    told = {(1, 0, "train/loss"): 2.0, (1, 1, "gradient norm"): norm}
    return TrainingResult(0, Path(), events, {k: torch.tensor(v) for k, v in weights.items()}, told)


def test_what_both_have_is_compared_and_all_weights_of_the_first_must_be_there() -> None:
    base = result({"a": 1.0}, {(1, "train/loss"): 2.0}, 3.0)
    more = result({"a": 1.0, "second.a": 5.0}, {(1, "train/loss"): 2.0, (1, "train/extra"): 9.0}, 4.0)
    assert base.first_difference(more)
    assert base.first_shared_difference(more) == ""
    assert more.first_shared_difference(base) == "weights second.a, which are not there"
    for other, told in (
        (result({"a": 1.5, "b": 0.0}, {(1, "train/loss"): 2.0}, 3.0), "weights a"),
        (result({"a": 1.0}, {(1, "train/loss"): 2.5}, 3.0), "events.jsonl"),
        (result({"a": 1.0}, {(1, "train/loss"): 2.0}, 4.0), "gradient norm at step 1"),
    ):
        assert told in base.first_shared_difference(other)


def test_weights_of_several_networks_are_told_apart() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    state = {
        "model": {"w": a},
        "optimizer": {"state": {}},
        "ema": {"w": b},
        "second": {"model": {"w": b}, "scaler": {}},
    }
    assert collect_weights(state) == {"w": a, "second.w": b}

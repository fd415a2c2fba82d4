"""Accuracy under attack: against closed forms, on a trained network, and however the images are divided."""

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.evaluations import plain_context
from helpers.launches import META, Launches
from paribus.core.batch import Batch
from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits
from paribus.evaluators.accuracy import Accuracy
from paribus.evaluators.attack import AccuracyUnderAttack
from paribus.evaluators.some_images import choose_evenly
from paribus.methods import attacks
from paribus.methods.evaluated import PlainNetwork

MEAN, STD = 0.3, 0.35


def context_of(classes: int, channels: int, side: int, n: int, rank: int = 0, world: int = 1) -> EvaluationContext:
    plain = plain_context(classes, channels, side)
    place = replace(plain.place, rank=rank, world=world)
    return replace(plain, place=place, mean=(MEAN,) * channels, std=(STD,) * channels, sizes={"val": n})


def split_of(inputs: Tensor, targets: Tensor, classes: int, rank: int = 0, world: int = 1) -> Splits:
    """One split, val, of which this rank has its share."""
    n = len(inputs)
    share = torch.arange(n * rank // world, n * (rank + 1) // world)

    def batches(size: int):
        for part in share.split(size) if len(share) else [share]:
            yield Batch(inputs[part], targets[part], part * 3 + 1, torch.arange(len(part)), len(part), classes)

    return {"val": batches}


class Halves(nn.Module):
    """Two classes by the sign of ⟨w, inputs⟩, float64."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, generator=torch.Generator().manual_seed(4), dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        score = inputs.flatten(1) @ self.weight
        return torch.stack((-score, score), 1)


def halves() -> tuple[PlainNetwork, Tensor, Tensor]:
    """A network of two half-spaces and images around its boundary, far from the ends of the range of pixels."""
    pixels = 0.5 + 0.02 * torch.randn(60, 2, 2, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    network = Halves()
    inputs = (pixels - MEAN) / STD
    with torch.no_grad():  # through the middle of the images
        inputs = inputs - (inputs.flatten(1) @ network.weight).median() * network.weight.view(2, 2, 2) / (
            network.weight @ network.weight
        )
    return PlainNetwork(network), inputs, (inputs.flatten(1) @ network.weight > -0.02).long().detach()


def evaluate(evaluator: AccuracyUnderAttack, method: Any, inputs: Tensor, targets: Tensor, classes: int) -> Any:
    context = context_of(classes, inputs.shape[1], inputs.shape[2], len(inputs))
    return evaluator(method, split_of(inputs, targets, classes), context)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
def test_half_spaces_fall_where_their_margin_ends(attack: str, norm: str, order: int) -> None:
    """An image is right under attack while its distance from the boundary, in the norm's own measure, is above ε."""
    method, inputs, targets = halves()
    weight = method.model.weight.detach()  # type: ignore[union-attr]
    margin = (inputs.flatten(1) @ weight) * (2 * targets - 1) * STD / torch.linalg.vector_norm(weight, ord=order)
    radii = (1.0, 3.0, 6.0)
    chosen = instantiate(AccuracyUnderAttack, {"attack": attack, "norm": norm, "epsilon": radii})
    found = evaluate(chosen, method, inputs, targets, 2).means()
    expected = [(margin > radius / 255).double().mean().item() for radius in radii]
    assert list(found.values()) == expected
    assert len(set(expected)) == 3, "the radii tell images apart"
    name = "pgd10" if attack == "pgd" else "fgsm"
    assert list(found) == [f"val/attack_acc_{name}_{norm}_{radius:g}" for radius in radii] == list(chosen.keys)


@functools.cache
def trained() -> tuple[PlainNetwork, Tensor, Tensor]:
    """A small network that has learnt to tell ten blurred pictures apart, and 300 noisy images of them."""
    generator = torch.Generator().manual_seed(2)
    pictures = F.avg_pool2d(torch.rand(10, 1, 8, 8, generator=generator), 3, 1, 1)
    targets = torch.arange(900) % 10
    pixels = (pictures[targets] + 0.12 * torch.randn(900, 1, 8, 8, generator=generator)).clamp(0, 1)
    inputs = (pixels - MEAN) / STD
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 10))
    for _ in range(60):
        loss = F.cross_entropy(network(inputs[300:]), targets[300:])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.3 * gradient
    return PlainNetwork(network.eval()), inputs[:300], targets[:300]


def accuracies(**settings: Any) -> list[float]:
    method, inputs, targets = trained()
    return list(evaluate(instantiate(AccuracyUnderAttack, settings), method, inputs, targets, 10).means().values())


def clean() -> float:
    method, inputs, targets = trained()
    return Accuracy()(method, split_of(inputs, targets, 10)).means()["val/acc1"]  # type: ignore[arg-type]


RADII = (0.0, 8.0, 16.0, 64.0)


def test_of_a_trained_network_the_accuracy_falls_with_the_radius_and_from_the_clean_one() -> None:
    found = accuracies(epsilon=RADII)
    assert found[0] == clean() > 0.85
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.3
    one_step = accuracies(epsilon=RADII, attack="fgsm")
    assert one_step[0] == clean()
    assert sum(found) < sum(one_step), "ten steps find more than one"


def test_negative_control_steps_downhill_fool_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    ascend = attacks.ascend
    monkeypatch.setattr(attacks, "ascend", lambda change, gradient, size, norm: ascend(change, -gradient, size, norm))
    assert accuracies(epsilon=(8.0, 64.0), random_start=False) == [clean()] * 2


def test_restarts_can_only_find_more() -> None:
    settings = {"epsilon": (16.0,), "steps": 1, "step_size": 4.0}
    found = [accuracies(restarts=k, **settings)[0] for k in (1, 3, 6)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    chosen = instantiate(AccuracyUnderAttack, {"restarts": 3, **settings})
    assert chosen.keys == ("val/attack_acc_pgd1x3_linf_16",)


@pytest.mark.parametrize("settings", [{"attack": "fgsm"}, {"random_start": False}])
def test_equal_restarts_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="restarts: found 2"):
        instantiate(AccuracyUnderAttack, {"restarts": 2, **settings})


@pytest.mark.parametrize("epsilon", [(), (2.0, 1.0), (1.0, 1.0), (-1.0,)])
def test_radii_rise(epsilon: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        instantiate(AccuracyUnderAttack, {"epsilon": epsilon})


@pytest.mark.parametrize(
    ("size", "world", "limit"), [(1, 1, None), (16, 2, 23), (64, 3, 60), (64, 3, 100), (7, 4, None), (7, 64, 23)]
)
def test_batches_and_processes_change_nothing(size: int, world: int, limit: int | None) -> None:
    method, inputs, targets = halves()
    chosen = AccuracyUnderAttack(epsilon=(1.0, 3.0), steps=1, batch_size=size, limit=limit, restarts=2)
    parts = [
        chosen(method, split_of(inputs, targets, 2, rank, world), context_of(2, 2, 2, 60, rank, world))
        for rank in range(world)
    ]
    whole = evaluate(replace(chosen, batch_size=60), method, inputs, targets, 2)
    for key in chosen.keys:
        assert sum(int(part.totals[key]) for part in parts) == int(whole.totals[key])
        assert sum(int(part.counts[key]) for part in parts) == int(whole.counts[key]) == min(limit or 60, 60)
    assert 0 < whole.totals[chosen.keys[1]] < whole.totals[chosen.keys[0]]


def test_a_limit_takes_images_at_even_distances() -> None:
    inputs = torch.arange(10.0)[:, None, None, None]
    splits = split_of(inputs, torch.zeros(10, dtype=torch.int64), 2)
    found = [b.inputs.flatten().tolist() for b in choose_evenly(splits, "val", 4, 4, context_of(2, 1, 1, 10))]
    assert found == [[0, 2], [5, 7], []]


def test_another_seed_starts_elsewhere() -> None:
    settings: dict[str, Any] = {"epsilon": (90.0,), "steps": 1, "step_size": 1.0}
    found = {tuple(accuracies(seed=seed, **settings)) for seed in range(4)}
    assert len(found) > 1
    assert accuracies(seed=0, **settings) == accuracies(seed=0, **settings)


def test_the_network_is_only_looked_at() -> None:
    method, inputs, targets = trained()
    network = method.model
    network.train()
    network[0].bias.requires_grad_(False)  # type: ignore[index,union-attr]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(AccuracyUnderAttack(epsilon=(8.0,)), method, inputs[:9], targets[:9], 10)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network[0].bias.requires_grad_(True)  # type: ignore[index,union-attr]
    network.eval()


def test_the_curve_has_a_point_a_radius() -> None:
    method, inputs, targets = trained()
    chosen = AccuracyUnderAttack(epsilon=RADII)
    sums = evaluate(chosen, method, inputs, targets, 10)
    curve = chosen.details(sums, context_of(10, 1, 8, 300))["pgd10_linf"]["curve"]
    assert curve["x"] == list(RADII)
    assert curve["y"] == list(sums.means().values())


class Steps(nn.Module):
    """A network whose scores have no gradient."""

    def forward(self, inputs: Tensor) -> Tensor:
        return F.one_hot(inputs.flatten(1).argmax(1) % 2, 2).double()


def test_what_cannot_be_attacked_is_told_before_training() -> None:
    context = context_of(2, 2, 2, 60)
    method, *_ = halves()
    with pytest.raises(ConfigError, match="gives no gradient"):
        AccuracyUnderAttack().check_method(PlainNetwork(Steps()), context)
    with pytest.raises(ConfigError, match=r"limit: found 5; how many images minival has is not known"):
        AccuracyUnderAttack(splits=("minival",), limit=5).check_method(method, context)
    context = replace(context, place=replace(context.place, dtype=torch.float64))
    AccuracyUnderAttack(limit=5).check_method(method, context)


def test_it_waits_for_the_device_in_no_batch() -> None:
    index = torch.zeros(8, dtype=torch.int64, device=META)
    batch = Batch(torch.zeros(8, 3, 4, 4, device=META), index, index, index, 8, 5)
    method = PlainNetwork(nn.Sequential(nn.Flatten(), nn.Linear(48, 5, device=META)))
    context = context_of(5, 3, 4, 24)
    with Launches() as counted:
        sums = AccuracyUnderAttack(epsilon=(0.0, 8.0), restarts=2)(method, {"val": lambda size: [batch] * 3}, context)
    assert counted.waits == []
    assert all(value.is_meta and value.dtype == torch.int64 for value in sums.totals.values())

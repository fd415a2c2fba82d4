"""Attacks and adversarial training against a straight-line account of PGD in NumPy, with its gradient by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import instantiate
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, DeviceContext, Slots, Spec
from paribus.core.streams import uniform
from paribus.methods import attacks
from paribus.methods.ema import Ema
from paribus.methods.objectives import CrossEntropy
from paribus.methods.optimizers import SGD
from paribus.methods.schedules import Constant
from paribus.methods.supervised import SupervisedTraining
from paribus.methods.update import GradientStep
from paribus.models.groups import decay_groups
from paribus.techniques.pgd import ObjectiveUnderAttack, PGDTraining

N, SHAPE, CLASSES = 6, (3, 4, 5), 4
MEAN, STD = (0.5, 0.45, 0.4), (0.2, 0.25, 0.4)  # far enough apart that a gradient in the wrong unit shows in l2
SPEC = Spec(CLASSES, *SHAPE)
TOLERANCE = 1e-6


class TwoLayers(nn.Module):
    """tanh between two affine maps, in float64, with a dropout that must not act in an attack."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        size = SHAPE[0] * SHAPE[1] * SHAPE[2]
        first = torch.randn(16, size, generator=generator, dtype=torch.float64) / size**0.5
        second = torch.randn(CLASSES, 16, generator=generator, dtype=torch.float64) * scale
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.dropout(torch.tanh(inputs.flatten(1) @ self.first.T)) @ self.second.T


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(N, *SHAPE, generator=generator, dtype=torch.float64)
    pixels[0, :, 0], pixels[1, :, 0] = 0.0, 1.0  # at both ends of the range
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    ids = torch.arange(N) * 17 + 5
    return Batch((pixels - mean) / std, torch.arange(N) % CLASSES, ids, torch.arange(N), N, CLASSES)


def account(network: TwoLayers, batch: Batch, norm: str, epsilon: float, size: float, steps: int, seed: int) -> Any:
    """Madry et al.'s PGD from the paper, one image at a time; seed < 0: from the image itself. Normalised inputs."""
    first, second = (p.detach().numpy() for p in (network.first, network.second))
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (MEAN, STD))
    weights = batch.targets.numpy()
    weights = np.eye(CLASSES)[weights] if weights.ndim == 1 else weights
    drawn = uniform(max(seed, 0), "pgd", 0, batch.ids, int(np.prod(SHAPE)) + 1).double().numpy()
    out = []
    for i in range(N):
        natural = batch.inputs[i].numpy() * std + mean
        x = natural.copy()
        if seed >= 0:
            x = np.clip(x + (2 * drawn[i, :-1].reshape(SHAPE) - 1) * epsilon, 0, 1)
        for _ in range(steps):
            hidden = np.tanh(first @ ((x - mean) / std).ravel())
            scores = second @ hidden
            softmax = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            back = first.T @ ((second.T @ (softmax - weights[i])) * (1 - hidden**2))
            gradient = back.reshape(SHAPE) / std
            if norm == "linf":
                x = np.clip(x + size * np.sign(gradient), natural - epsilon, natural + epsilon)
            else:
                moved = x + size * gradient / np.sqrt((gradient**2).sum()) - natural
                x = natural + moved * min(1.0, epsilon / np.sqrt((moved**2).sum()))
            x = np.clip(x, 0, 1)
        out.append((x - mean) / std)
    return torch.from_numpy(np.stack(out))


def make(method: PGDTraining, seen: list[Tensor] | None = None, precision: str = "fp64", **slots: Any) -> Any:
    """The method on a TwoLayers, by plain SGD. seen: collects the inputs that the objective is given."""
    network = TwoLayers()

    def objective(model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        if seen is not None:
            seen.append(batch.inputs.detach().clone())
        return CrossEntropy()(model, batch, at)

    update = GradientStep(precision=precision, **{k: v for k, v in slots.items() if k == "accumulate"})  # type: ignore[arg-type]
    chosen = Slots(
        (),
        lambda spec: network,  # type: ignore[arg-type]
        objective,
        SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0),
        Constant(),
        update,
        Ema(),
    )
    place = DeviceContext(torch.device("cpu"), torch.float64)
    context = BuildContext(
        SPEC, place, lambda factory, name: factory(SPEC), lambda m: m, decay_groups, lambda m: None, mean=MEAN, std=STD
    )
    return method(chosen, context)


def attacked_inputs(batch: Batch, seed: int = 0, **settings: Any) -> Tensor:
    """What a step of PGDTraining shows the objective."""
    seen: list[Tensor] = []
    torch.manual_seed(0)
    make(instantiate(PGDTraining, settings), seen).train_step(batch, Progress(0, 10, seed))
    return seen[0]


CASES: list[dict[str, Any]] = [
    {"norm": "linf", "epsilon": 8.0, "steps": 7, "step_size": 2.0},
    {"norm": "linf", "epsilon": 8.0, "steps": 1, "step_size": 8.0, "random_start": False},  # FGSM
    {"norm": "l2", "epsilon": 80.0, "steps": 10, "step_size": 15.0, "random_start": False},
    {"norm": "l2", "epsilon": 400.0, "steps": 5, "step_size": 200.0, "random_start": False},  # both projections act
]


def compare(settings: dict[str, Any], batch: Batch | None = None) -> None:
    batch = batch or a_batch()
    seed = 3 if settings.get("random_start", True) else -1
    scaled = (settings["epsilon"] / 255, settings["step_size"] / 255, settings["steps"])
    expected = account(TwoLayers(), batch, settings["norm"], *scaled, seed)
    found = attacked_inputs(batch, max(seed, 0), **settings)
    assert (expected - batch.inputs).abs().max() > 0.01, "the attack does something"
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("settings", CASES, ids=lambda s: f"{s['norm']}-{s['steps']}")
def test_the_objective_sees_the_inputs_of_the_account(settings: dict[str, Any]) -> None:
    compare(settings)


def test_with_mixed_targets_the_loss_is_against_those() -> None:
    weights = torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    compare(CASES[0], replace(a_batch(), targets=weights / weights.sum(1, keepdim=True)))


def test_without_a_step_size_it_is_two_and_a_half_radii_over_the_steps() -> None:
    batch = a_batch()
    given = attacked_inputs(batch, norm="linf", epsilon=8.0, steps=5, step_size=4.0)
    assert torch.equal(attacked_inputs(batch, norm="linf", epsilon=8.0, steps=5, step_size=None), given)


def _never_projected(change: Tensor, pixels: Tensor, epsilon: float, norm: str) -> Tensor:
    return change


def _of_inputs(change: Tensor, gradient: Tensor, size: float, norm: str) -> Tensor:
    """A gradient of normalised inputs where one of pixels belongs."""
    std = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    return ASCEND(change, gradient * std, size, norm)  # type: ignore[arg-type]


def _downhill(change: Tensor, gradient: Tensor, size: float, norm: str) -> Tensor:
    return ASCEND(change, -gradient, size, norm)  # type: ignore[arg-type]


ASCEND = attacks.ascend


@pytest.mark.parametrize(
    ("name", "wrong", "case"),
    [("project", _never_projected, 0), ("ascend", _of_inputs, 2), ("ascend", _downhill, 0)],
)
def test_negative_control_a_broken_attack_is_seen(
    name: str, wrong: Callable[..., Tensor], case: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(CASES[case])
    monkeypatch.setattr(attacks, name, wrong)
    with pytest.raises(AssertionError):
        compare(CASES[case])


def test_negative_control_an_attack_in_training_mode_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "eval", lambda self: self)
    with pytest.raises(AssertionError):
        compare(CASES[0])


def test_a_step_is_plain_training_on_the_attacked_inputs() -> None:
    """The weights after it are those that SGD gives for the account's inputs, with the same dropout."""
    batch, network = a_batch(), TwoLayers()
    attacked = account(network, batch, "linf", 8 / 255, 2 / 255, 7, 3)
    torch.manual_seed(5)
    nn.functional.cross_entropy(network(attacked), batch.targets).backward()
    method = make(PGDTraining())
    torch.manual_seed(5)
    method.train_step(batch, Progress(0, 10, 3))
    for mine, theirs in zip(method.model.parameters(), network.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(mine.detach(), theirs.detach() - 0.1 * theirs.grad, rtol=0, atol=1e-9)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-9)  # nothing of the attack's own passes
    assert method.model.training


def test_in_parts_the_inputs_are_the_same() -> None:
    batch, whole, parts = a_batch(), list[Tensor](), list[Tensor]()
    make(PGDTraining(), whole).train_step(batch, Progress(0, 10, 0))
    make(PGDTraining(), parts, accumulate=3).train_step(batch, Progress(0, 10, 0))
    assert len(parts) == 3
    torch.testing.assert_close(torch.cat(parts), whole[0], rtol=0, atol=1e-12)


def test_a_radius_of_0_is_the_supervised_method() -> None:
    method = make(PGDTraining(epsilon=0.0))
    assert isinstance(method, SupervisedTraining)
    assert torch.equal(attacked_inputs(a_batch(), epsilon=0.0), a_batch().inputs)


class Normed(nn.Module):
    """A linear map of pixels after a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(SHAPE[0], dtype=torch.float64)
        weight = torch.randn(CLASSES, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.weight = nn.Parameter(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(inputs).flatten(1).tanh() @ self.weight.T


@pytest.mark.parametrize("syncs", [True, False])
def test_the_attack_is_on_the_statistics_that_all_ranks_share(syncs: bool) -> None:
    """Each rank's own ones drift apart between evaluations, which make them rank 0's. Without sync: the negative
    control."""
    batch, of_rank_0, drifted = a_batch(), Normed(), Normed()
    drifted.norm.running_mean.copy_(torch.tensor([2.0, -1.0, 3.0]))  # type: ignore[union-attr]
    attack = attacks.Attack("l2", 40.0, 4, None, MEAN, STD)
    seen: list[Tensor] = []

    def objective(model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(batch.inputs)
        return CrossEntropy()(model, batch, at)

    def sync(network: nn.Module) -> None:
        if syncs:
            network.load_state_dict(of_rank_0.state_dict())

    for network in (of_rank_0, drifted):
        under_attack = ObjectiveUnderAttack(objective, network, attack, False, sync)
        under_attack(network.eval(), batch, Progress(0, 10, 0))
    assert torch.equal(*seen) == syncs

"""Adversarial training against accounts written out: losses, R1, the gradient penalty, one step of both networks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.adversarial_steps import SGD, Account, Shown, Weights, logistic, step_once
from paribus.conformance.trainings import workbench
from paribus.core.generation import JudgedBatch, ScoredImages
from paribus.core.progress import Progress
from paribus.methods.adversarial_losses import Hinge, NonSaturating, Wasserstein
from paribus.methods.discriminator_penalties import R1, GradientPenalty
from paribus.recipe.smoke import build_small


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_losses_are_those_of_their_papers() -> None:
    real, fake = draw(7), draw(7, seed=1)
    sigma = [[1 / (1 + math.exp(-float(x))) for x in scores] for scores in (real, fake)]
    n = len(real)
    non_saturating = -sum(map(math.log, sigma[0])) / n - sum(math.log(1 - s) for s in sigma[1]) / n
    assert float(NonSaturating().discriminator(real, fake)) == pytest.approx(non_saturating, rel=1e-12)
    assert float(NonSaturating().generator(fake)) == pytest.approx(-sum(map(math.log, sigma[1])) / n, rel=1e-12)
    hinge = sum(max(0, 1 - float(x)) for x in real) / n + sum(max(0, 1 + float(x)) for x in fake) / n
    assert float(Hinge().discriminator(real, fake)) == pytest.approx(hinge, rel=1e-12)
    assert float(Wasserstein().discriminator(real, fake)) == pytest.approx(float(fake.mean() - real.mean()), rel=1e-12)
    for loss in (Hinge(), Wasserstein()):
        assert float(loss.generator(fake)) == pytest.approx(-float(fake.mean()), rel=1e-12)
    saturating = sum(math.log(1 - s) for s in sigma[1]) / n
    assert abs(saturating - float(NonSaturating().generator(fake))) > 0.1, "negative control: the first form of it"


class Quadratic(nn.Module):
    """D(x) = Σ w x² / 2, whose gradient w x is known."""

    classes = 0

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor, classes: Any = None, change: Any = None) -> ScoredImages:
        return ScoredImages((self.weight * images.square()).flatten(1).sum(1) / 2, ())


def judge(weight: Tensor, real: Tensor, fake: Tensor) -> JudgedBatch:
    network = Quadratic(weight)
    real = real.clone().requires_grad_()
    return JudgedBatch(network, real, fake, None, network(real), network(fake), (), lambda rows: rows)


def test_r1_is_half_gamma_times_the_mean_squared_gradient_at_real_images() -> None:
    weight, real, fake = draw(3, 4, 4), draw(5, 3, 4, 4, seed=1), draw(5, 3, 4, 4, seed=2)
    judged = judge(weight, real, fake)
    found = R1(gamma=10.0)(judged, {"due": True})
    expected = 5 * (weight * real).square().sum() / 5
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-12)
    (slope,) = torch.autograd.grad(found, judged.discriminator.parameters())
    assert torch.allclose(slope, 10 * weight * real.square().mean(0), rtol=1e-12)
    off = 5 * (weight * fake).square().sum() / 5
    assert abs(float(off) - float(found.detach())) > 0.1, "negative control: at generated images"
    assert abs(5 * float((weight * real).flatten(1).norm(dim=1).mean()) - float(found.detach())) > 0.1, "not squared"


def test_lazy_r1_is_as_strong_on_the_whole() -> None:
    judged = judge(draw(3, 4, 4), draw(5, 3, 4, 4, seed=1), draw(5, 3, 4, 4, seed=2))
    lazy = R1(gamma=2.0, every=4)
    steps = [lazy(judged, lazy.draw(None, Progress(step, 8, 0))) for step in range(8)]  # type: ignore[arg-type]
    assert [float(term.detach()) > 0 for term in steps] == [True, False, False, False] * 2
    assert float(sum(steps).detach()) == pytest.approx(8 * float(R1(gamma=2.0)(judged, {"due": True}).detach()))


def test_gradient_penalty_is_of_the_length_between_each_pair() -> None:
    weight, real, fake = draw(3, 4, 4), draw(5, 3, 4, 4, seed=1), draw(5, 3, 4, 4, seed=2)
    share = torch.rand(5, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    judged = judge(weight, real, fake)
    found = GradientPenalty(weight=10.0)(judged, {"share": share})

    def account(w: Tensor, shares: list[float], one: float = 1.0) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i, eps in enumerate(shares):
            between = eps * real[i] + (1 - eps) * fake[i]
            total = total + ((w * between).square().sum().sqrt() - one) ** 2
        return 10 * total / len(shares)

    free = weight.clone().requires_grad_()
    expected = account(free, [float(s) for s in share])
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    (slope,) = torch.autograd.grad(found, judged.discriminator.parameters())
    assert torch.allclose(slope, torch.autograd.grad(expected, free)[0], rtol=1e-9)
    for shares, one in (([float(share[0])] * 5, 1.0), ([float(s) for s in share], 0.0)):
        off = float(account(weight, shares, one))
        assert abs(off - float(found.detach())) > 1e-2, "negative control: one ε for all; a length of 0"


def written_out(gamma: float, flip: bool = False) -> Account:
    """The discriminator's loss with R1, in its own words."""

    def account(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
        real = shown.real.clone().requires_grad_()
        if flip:
            shown = shown._replace(real=shown.fake, fake=shown.real)
        steepness = torch.zeros((), dtype=torch.float64)
        for i, score in enumerate(torch.func.functional_call(network, weights, (real, shown.classes)).scores):
            (slope,) = torch.autograd.grad(score, real, create_graph=True)
            steepness = steepness + slope[i].square().sum()
        return logistic(network, weights, shown) + gamma / 2 * steepness / len(real)

    return account


STEP = ("method.penalties.r1.gamma=3.0", "method.penalties.r1.every=1")


def test_one_step_is_the_one_written_out() -> None:
    generator, discriminator = step_once(written_out(3.0), *STEP)
    assert generator < 1e-10
    assert discriminator < 1e-10


@pytest.mark.parametrize("account", [written_out(6.0), written_out(3.0, flip=True)])
def test_negative_control_another_discriminator_loss_is_seen(account: Account) -> None:
    assert step_once(account, *STEP)[1] > 1e-5


def test_the_generators_step_leaves_the_discriminators_gradients_as_they_were() -> None:
    recipe = build_small(SGD)
    loader = workbench(recipe)[0].loader(recipe.batch_size, 0)
    gradients = []
    for every in (1, 2):  # at step 1 the generator has a step in the first method alone
        method = workbench(build_small((*SGD, f"method.generator_every={every}")))[1]
        network = method.parts()["discriminator"].network  # type: ignore[attr-defined]
        metrics = method.train_step(loader.batch(1), Progress(1, 10, 0))
        assert ("train/loss_generator" in metrics) == (every == 1)
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(one.any() for one in gradients[0])


def test_the_discriminators_rate_is_a_multiple_of_the_recipes() -> None:
    method = workbench(build_small((*SGD, "method.discriminator_lr=4.0")))[1]
    loader = workbench(build_small(SGD))[0].loader(6, 0)
    method.train_step(loader.batch(0), Progress(0, 10, 0))
    rates = [part.optimizer.param_groups[0]["lr"] for part in method.parts().values()]  # type: ignore[attr-defined]
    assert rates == [0.1, 0.4]

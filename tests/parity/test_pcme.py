"""PCME against straight-line accounts: the loss of a pair by loops over numbers, one step written out; and what the
authors' code does otherwise, each with the right behaviour.

Chun et al. 2021 (arXiv 2101.05068).
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.written_steps import RATE
from paribus.conformance.trainings import workbench
from paribus.core.embeddings import MatchedPairs
from paribus.core.progress import Progress
from paribus.core.streams import stream, uniform
from paribus.recipe.smoke import build_small
from paribus.techniques.pcme import kl_to_standard_normal, match_logits, match_loss, uniformity

N, J, D = 5, 3, 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=stream(seed, "pcme.test"))


def loss_by_loop(images: np.ndarray, texts: np.ndarray, a: float, b: float) -> np.ndarray:
    """−log of the probability of what is so, for each pair, as the paper has it: e^s / (e^s + e^−s), averaged."""
    n, j, _ = images.shape
    found = np.zeros((n, n))
    for i in range(n):
        for t in range(n):
            total = 0.0
            for k in range(j):
                for m in range(j):
                    distance = math.sqrt(
                        sum((x - y) ** 2 for x, y in zip(images[i, k], texts[t, m], strict=True)) + 1e-6
                    )
                    s = -a * distance + b
                    total += math.exp(s) / (math.exp(s) + math.exp(-s))
            p = total / j**2
            found[i, t] = -math.log(p if i == t else 1 - p)
    return found


def our_loss(images: Tensor, texts: Tensor, a: float, b: float) -> Tensor:
    logits = match_logits(images, texts, torch.tensor(a).to(images), torch.tensor(b).to(images))
    return match_loss(logits, torch.eye(len(images), dtype=torch.bool))


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (0.5, -1.0), (3.0, 4.0)])
def test_the_loss_of_every_pair_is_that_of_the_loop(a: float, b: float) -> None:
    images, texts = draw(N, J, D), draw(N, J, D, seed=1)
    expected = loss_by_loop(images.numpy(), texts.numpy(), a, b)
    assert np.allclose(our_loss(images, texts, a, b).numpy(), expected, rtol=1e-10)


def test_negative_control_a_sigmoid_of_s_alone_is_another_loss() -> None:
    images, texts = draw(N, J, D), draw(N, J, D, seed=1)
    halved = our_loss(images, texts, 0.5, 1.0)  # sigmoid(2 · s / 2)
    assert np.abs(halved.numpy() - loss_by_loop(images.numpy(), texts.numpy(), 1.0, 2.0)).max() > 0.1


def test_float32_holds_where_the_plain_expression_has_nothing_left() -> None:
    """Logits of −60: p is 1e-52, which float32 has not, and the loss is 120."""
    images, texts = draw(N, J, D), draw(N, J, D, seed=1) + 20
    narrow, wide = (our_loss(images.to(t), texts.to(t), 2.0, 5.0) for t in (torch.float32, torch.float64))
    plain = torch.sigmoid(2 * match_logits(*(x.float() for x in (images, texts)), *torch.tensor((2.0, 5.0)))).mean(2)
    assert not torch.isfinite(-plain.log()).all(), "negative control"
    assert torch.isfinite(narrow).all()
    assert narrow.diagonal().min() > 60
    assert torch.allclose(narrow.double(), wide, rtol=1e-5)


def test_points_in_one_place_have_a_finite_gradient() -> None:
    point = torch.ones(1, 1, D).requires_grad_()
    our_loss(point.expand(N, J, D), point.expand(N, J, D).clone(), 5.0, 5.0).sum().backward()
    assert torch.isfinite(point.grad).all()  # type: ignore[arg-type]
    one = torch.ones(1, 1, D, requires_grad=True)
    (one - one.detach()).square().sum().sqrt().backward()
    assert not torch.isfinite(one.grad).all(), "negative control: a root without the 1e-6"  # type: ignore[arg-type]


def test_the_two_terms_of_the_authors_code_are_the_same_sum() -> None:
    """They add the loss of captions for images and that of images for captions: of the pairs' table and of its
    transpose, summed over all pairs. Here it is there once."""
    images, texts = draw(N, J, D), draw(N, J, D, seed=1)
    one, other = our_loss(images, texts, 1.0, 2.0), our_loss(texts, images, 1.0, 2.0)
    assert torch.allclose(one, other.T, rtol=1e-12)
    assert float(one.sum()) == pytest.approx(float(other.sum()), rel=1e-12)
    assert not torch.allclose(one, other), "negative control: the tables themselves differ"


def authors_kl(mean: Tensor, output: Tensor) -> Tensor:
    """Their KL takes the head's output for the logarithm of the variance."""
    return (output.exp() + mean.square() - 1 - output).sum(1) / 2


def test_kl_is_of_the_distribution_that_is_drawn_from() -> None:
    mean, log_sigma = draw(6, D), draw(6, D, seed=1) / 2
    drawn = torch.distributions.Normal(mean, log_sigma.exp())  # as samples are made: μ + exp(log σ) ε
    expected = torch.distributions.kl_divergence(drawn, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(kl_to_standard_normal(mean, log_sigma), expected, rtol=1e-12)
    off = authors_kl(mean, log_sigma) - expected
    assert off.abs().max() > 0.1, "negative control: theirs is of another distribution"
    assert torch.allclose(authors_kl(mean, 2 * log_sigma), expected), "and right for a log variance"


def test_uniformity_is_the_mean_over_pairs_and_one_in_one_place() -> None:
    points = draw(7, D) / 3
    pairs = [math.exp(-2 * float((points[i] - points[k]).square().sum())) for i in range(7) for k in range(i)]
    assert float(uniformity(points)) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    assert float(uniformity(torch.zeros(7, D))) == pytest.approx(1)


SGD = (
    "experiment=smoke_captions",
    "optimizer=sgd",
    f"optimizer.lr={RATE}",
    "optimizer.momentum=0",
    "optimizer.nesterov=false",
    "optimizer.weight_decay=0",
    "schedule=constant",
    "update.precision=fp64",
    "batch_size=6",
    "objective.samples=3",
    "model.scale=2",
    "model.shift=1",
)
Account = Callable[[MatchedPairs, Tensor, int], Tensor]


def written_out(beta: float, spread: float) -> Account:
    """The loss in its own words: samples, all pairs one by one, KL, uniformity."""

    def account(pairs: MatchedPairs, ids: Tensor, seed: int) -> Tensor:
        drawn = []
        for name, (mean, log_sigma) in (("images", pairs.images), ("texts", pairs.texts)):
            u = uniform(seed, f"pcme.{name}", 0, ids, 3 * mean.shape[1]).view(len(ids), 3, -1)
            eps = torch.special.ndtri(u.double() + 2.0**-25)
            drawn.append(mean[:, None] + log_sigma.exp()[:, None] * eps)  # type: ignore[union-attr]
        images, texts = drawn
        n, loss = len(ids), torch.zeros((), dtype=torch.float64)
        for i in range(n):
            for t in range(n):
                distance = ((images[i][:, None] - texts[t][None]).square().sum(2) + 1e-6).sqrt()
                p = torch.sigmoid(2 * (pairs.shift - pairs.scale * distance)).mean()  # type: ignore[operator]
                loss = loss - (p if i == t else 1 - p).log()
        for mean, log_sigma in (pairs.images, pairs.texts):
            variance = (2 * log_sigma).exp()  # type: ignore[operator]
            loss = loss + beta * 0.5 * (variance + mean**2 - 1 - variance.log()).sum()
        points = torch.cat((images, texts)).flatten(0, 1)
        below = torch.ones(len(points), len(points)).tril(-1) > 0
        near = (-2 * (points[:, None] - points).square().sum(2)).exp()[below].mean()
        return (loss + spread * near) / n

    return account


def step_once(account: Account, *overrides: str) -> float:
    """The largest difference of a weight from the account, after one step of plain SGD."""
    recipe = build_small((*SGD, *overrides), ("pcme",))
    data, method, _ = workbench(recipe)
    batch = data.loader(recipe.batch_size, 0).batch(0)
    (part,) = method.parts().values()  # type: ignore[attr-defined]
    weights = {k: p.detach().clone().requires_grad_() for k, p in part.network.named_parameters()}
    pairs = torch.func.functional_call(part.network, weights, (batch.inputs, batch.also["tokens"]))
    gradients = torch.autograd.grad(account(pairs, batch.ids, recipe.seed), list(weights.values()))
    method.train_step(batch, Progress(0, 10, recipe.seed))
    stepped = dict(part.network.named_parameters())
    ends = zip(weights.items(), gradients, strict=True)
    return max(float((stepped[k] - (w - RATE * d)).detach().abs().max()) for (k, w), d in ends)


STEP = ("objective.kl_weight=0.3", "objective.uniformity=500")


def test_one_step_is_the_one_written_out() -> None:
    # noise is float32 here and float64 in the account
    assert step_once(written_out(0.3, 500.0), *STEP) < 1e-5


@pytest.mark.parametrize("account", [written_out(0.6, 500.0), written_out(0.3, 1000.0)])
def test_negative_control_other_weights_of_the_terms_are_seen(account: Account) -> None:
    assert step_once(account, *STEP) > 1e-4


@pytest.mark.parametrize("size", [1, 2])
def test_batches_of_one_and_two_have_finite_gradients(size: int) -> None:
    recipe = build_small((*SGD, *STEP, f"batch_size={size}", "objective.samples=1"), ("pcme",))
    data, method, _ = workbench(recipe)
    metrics = method.train_step(data.loader(size, 0).batch(0), Progress(0, 10, 0))
    assert all(math.isfinite(float(value)) for value in metrics.values())
    (part,) = method.parts().values()  # type: ignore[attr-defined]
    assert all(torch.isfinite(p.grad).all() for p in part.network.parameters())  # type: ignore[arg-type]

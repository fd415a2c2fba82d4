"""CALM against a loop in NumPy: likelihoods, both losses and their gradients, dead attention, the authors' nudge."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.techniques.calm import expected_log_joint, log_joint, log_likelihood, log_prior

Loss = Callable[[Tensor], Tensor]


def drawn(n: int = 3, classes: int = 4, h: int = 2, w: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Class maps, attention with zeros among it, and targets."""
    random = torch.Generator().manual_seed(0)
    maps = 2 * torch.randn(n, classes, h, w, dtype=torch.float64, generator=random)
    attention = F.relu(torch.randn(n, h, w, dtype=torch.float64, generator=random)) + 0.0
    attention[:, 0, 0] = 0.5  # none is dead
    return maps, attention, torch.arange(n) % classes


def joint_by_loop(maps: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """p(y, z | x), as the paper defines it, cell by cell."""
    made = np.zeros_like(maps)
    for i in range(len(maps)):
        for r in range(maps.shape[2]):
            for c in range(maps.shape[3]):
                scores = [math.exp(v) for v in maps[i, :, r, c]]
                for y, score in enumerate(scores):
                    made[i, y, r, c] = score / sum(scores) * attention[i, r, c] / attention[i].sum()
    return made


def test_likelihoods_are_those_of_the_loop_and_sum_to_one() -> None:
    maps, attention, _ = drawn()
    joint, by_loop = log_joint(maps, attention), joint_by_loop(maps.numpy(), attention.numpy())
    assert (attention == 0).any()
    assert np.abs(joint.exp().numpy() - by_loop).max() < 1e-15
    assert np.abs(log_likelihood(joint).exp().numpy() - by_loop.sum((2, 3))).max() < 1e-15
    assert torch.allclose(log_likelihood(joint).exp().sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-14)
    posterior = by_loop / by_loop.sum((2, 3), keepdims=True)
    logs = np.log(np.where(by_loop > 0, by_loop, 1))
    assert np.abs(expected_log_joint(joint).numpy() - (posterior * logs).sum((2, 3))).max() < 1e-13


def test_negative_control_a_softmax_over_cells_or_classes_elsewhere_is_seen() -> None:
    maps, attention, _ = drawn()
    by_loop = joint_by_loop(maps.numpy(), attention.numpy())
    for other in (
        maps.log_softmax(1) + attention.flatten(1).softmax(1).log().view_as(attention)[:, None],
        maps.flatten(2).log_softmax(2).view_as(maps) + log_prior(attention)[:, None],
    ):
        assert np.abs(other.exp().numpy() - by_loop).max() > 0.01


def gradients(reduce: Loss, detach: bool) -> tuple[Tensor, Tensor]:
    maps, attention, targets = drawn()
    maps.requires_grad_()
    attention.requires_grad_()
    values = reduce(log_joint(maps, attention, detach))[torch.arange(len(targets)), targets]
    of_maps, of_attention = torch.autograd.grad(-values.mean(), (maps, attention))
    return of_maps, of_attention


@pytest.mark.parametrize("detach", [False, True])
def test_both_losses_have_one_gradient(detach: bool) -> None:
    """With a constant denominator too: what is published of their difference is not explained by it."""
    for ours, theirs in zip(gradients(log_likelihood, detach), gradients(expected_log_joint, detach), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def with_gradient_of_posterior(joint: Tensor) -> Tensor:
    posterior = (joint - log_likelihood(joint)[..., None, None]).exp()
    return (posterior * torch.where(joint.isinf(), 0.0, joint)).sum((-2, -1))


def test_negative_control_a_posterior_with_a_gradient_is_another_loss() -> None:
    right, wrong = gradients(log_likelihood, False), gradients(with_gradient_of_posterior, False)
    assert (right[0] - wrong[0]).abs().max() > 1e-3


def test_the_gradient_is_the_slope_of_the_loss_and_a_constant_denominators_is_not() -> None:
    maps, attention, targets = drawn()
    step = 1e-6

    def loss(a: np.ndarray) -> float:
        joint = joint_by_loop(maps.numpy(), a)
        return -float(np.mean([math.log(joint[i, y].sum()) for i, y in enumerate(targets.tolist())]))

    place = (1, 0, 0)
    high, low = attention.numpy().copy(), attention.numpy().copy()
    high[place] += step
    low[place] -= step
    slope = (loss(high) - loss(low)) / (2 * step)
    assert float(gradients(log_likelihood, False)[1][place]) == pytest.approx(slope, rel=1e-6)
    assert abs(float(gradients(log_likelihood, True)[1][place]) - slope) > 0.01, "the authors'"


def test_a_constant_denominator_leaves_the_scale_of_the_attention_free() -> None:
    """The exact gradient has no part along a itself, by which its scale would change; the authors' always grows it."""
    _, attention, _ = drawn()
    along = [(gradients(log_likelihood, detach)[1] * attention).sum((1, 2)) for detach in (False, True)]
    assert along[0].abs().max() < 1e-15
    assert torch.allclose(along[1], torch.full_like(along[1], -1 / 3), rtol=1e-12), "−1 an image, in the mean of three"


@pytest.mark.parametrize("reduce", [log_likelihood, expected_log_joint])
def test_dead_attention_is_uniform_in_value_and_gradient(reduce: Loss) -> None:
    maps, attention, _ = drawn()
    attention[1] = 0
    results = list[tuple[Tensor, Tensor]]()
    for a in (attention, torch.where(attention.sum((1, 2), keepdim=True) > 0, attention, 1.0)):
        m, a = maps.clone().requires_grad_(), a.clone().requires_grad_()
        values = reduce(log_joint(m, a))
        results.append((values.detach(), torch.autograd.grad(values.sum(), (m, a))[0]))
        assert all(bool(torch.isfinite(x).all()) for x in results[-1])
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-14)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-12, atol=1e-15)
    a = attention.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reduce(log_joint(maps, a)).sum(), a)
    assert bool(torch.isfinite(gradient).all())
    assert not gradient[1].any()


def test_negative_control_dividing_by_the_sum_is_nan_where_attention_is_dead() -> None:
    attention = torch.zeros(1, 2, 2)
    assert bool((attention / attention.sum((1, 2), keepdim=True)).isnan().all())


def test_a_probability_below_the_authors_nudge_keeps_its_value() -> None:
    attention = torch.tensor([[[1.0, 1e-9]]], dtype=torch.float64)
    nudged = attention / attention.sum()
    nudged = (nudged + 1e-8 * (nudged < 1e-8)).log()
    ours = float(log_prior(attention)[0, 0, 1])
    assert ours == pytest.approx(math.log(1e-9), rel=1e-9)
    assert abs(float(nudged[0, 0, 1]) - ours) > 2


@pytest.mark.parametrize("detach", [False, True])
def test_a_single_cell_is_the_plain_softmax_classifier(detach: bool) -> None:
    maps, attention, targets = drawn(h=1, w=1)
    maps.requires_grad_()
    attention.requires_grad_()
    for reduce in (log_likelihood, expected_log_joint):
        scores = reduce(log_joint(maps, attention, detach))
        plain = F.log_softmax(maps[:, :, 0, 0], 1)
        assert torch.allclose(scores, plain, rtol=1e-14)
        loss = -scores[torch.arange(3), targets].mean()
        of_maps, of_attention = torch.autograd.grad(loss, (maps, attention))
        (expected,) = torch.autograd.grad(F.cross_entropy(maps[:, :, 0, 0], targets), maps)
        assert torch.allclose(of_maps, expected, rtol=1e-12, atol=1e-16)
        assert bool(of_attention.abs().max() > 0.1) == detach, "the only effect of a constant denominator here"

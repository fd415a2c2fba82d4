"""ReBias against straight-line accounts: the estimator as sums over samples, one step written out, Biased MNIST."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.written_steps import Losses, Weights, call_with_features, descend, step_once
from paribus.data.biased_mnist import draw_colours, paint
from paribus.methods.hsic import gaussian_kernel, unbiased_hsic


def draw(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kernel_by_loop(features: np.ndarray, sigma: float) -> np.ndarray:
    n = len(features)
    rows = [[math.exp(-sum((features[i] - features[j]) ** 2) / (2 * sigma**2)) for j in range(n)] for i in range(n)]
    return np.array(rows)


def hsic_by_loop(k: np.ndarray, m: np.ndarray) -> float:
    """The estimator as it is derived: averages of products of kernel values over tuples of distinct samples."""
    n = len(k)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    two = sum(k[i, j] * m[i, j] for i, j in pairs) / (n * (n - 1))
    triples = [(i, j, q) for i, j in pairs for q in range(n) if q not in (i, j)]
    three = sum(k[i, j] * m[i, q] for i, j, q in triples) / (n * (n - 1) * (n - 2))
    four = sum(k[i, j] * m[q, r] for i, j, q in triples for r in range(n) if r not in (i, j, q))
    return two - 2 * three + four / (n * (n - 1) * (n - 2) * (n - 3))


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_the_estimator_is_the_sum_over_distinct_samples(sigma: float) -> None:
    one, other = draw(9, 3, 0), draw(9, 5, 1)
    ours = unbiased_hsic(gaussian_kernel(one, sigma), gaussian_kernel(other, sigma))
    by_loop = hsic_by_loop(kernel_by_loop(one.numpy(), sigma), kernel_by_loop(other.numpy(), sigma))
    assert float(ours) == pytest.approx(by_loop, rel=1e-12, abs=1e-15)


def linear(features: Tensor) -> Tensor:
    return features @ features.T


def test_it_holds_for_kernels_without_ones_on_the_diagonal() -> None:
    one, other = draw(8, 3, 2), draw(8, 4, 3)
    ours = unbiased_hsic(linear(one), linear(other))
    assert float(ours) == pytest.approx(hsic_by_loop(linear(one).numpy(), linear(other).numpy()), rel=1e-11)


def subtracting_columns(kernel: Tensor, other: Tensor) -> Tensor:
    """As the authors' code does: the diagonal is taken from whole columns, `K − torch.diag(K)`, not from itself."""
    n = len(kernel)
    k, m = kernel - torch.diag(kernel), other - torch.diag(other)
    trace = (k @ m).trace()
    return (trace + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)) / (n * (n - 3))


def test_negative_control_the_authors_diagonal_is_right_for_gaussian_kernels_alone() -> None:
    one, other = draw(8, 3, 2), draw(8, 4, 3)
    gaussian = gaussian_kernel(one, 1.0), gaussian_kernel(other, 1.0)
    assert float(subtracting_columns(*gaussian)) == pytest.approx(float(unbiased_hsic(*gaussian)), rel=1e-9)
    both = linear(one), linear(other)
    assert abs(float(subtracting_columns(*both)) - float(unbiased_hsic(*both))) > 0.01


def test_it_is_zero_on_average_for_independent_features_and_not_for_the_same() -> None:
    values = [
        float(unbiased_hsic(gaussian_kernel(draw(20, 2, k), 1.0), gaussian_kernel(draw(20, 2, 1000 + k), 1.0)))
        for k in range(400)
    ]
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    same = gaussian_kernel(draw(20, 2, 0), 1.0)
    assert float(unbiased_hsic(same, same)) > 20 * error


def test_the_median_distance_is_that_of_the_pairs_and_scales_with_the_features() -> None:
    features = draw(7, 3, 4)
    distances = sorted(float((features[i] - features[j]).norm()) for i in range(7) for j in range(i))
    median = distances[(len(distances) - 1) // 2]  # the lower one of an even number, as torch.median has it
    assert torch.allclose(gaussian_kernel(features, None), gaussian_kernel(features, median), rtol=1e-12)
    assert torch.allclose(gaussian_kernel(100 * features, None), gaussian_kernel(features, None), rtol=1e-9)


def test_a_fixed_sigma_loses_the_gradient_of_wide_features_and_the_median_keeps_it() -> None:
    """Documented of the authors' setting: 128 features of standard deviation 3 with σ = 1."""
    one, other = 3 * draw(64, 128, 5), 3 * draw(64, 128, 6)
    norms = []
    for sigma in (1.0, None):
        features = one.float().requires_grad_()
        unbiased_hsic(gaussian_kernel(features, sigma), gaussian_kernel(other.float(), sigma)).backward()
        norms.append(float(features.grad.norm()))  # type: ignore[union-attr]
    assert norms[0] == 0
    assert norms[1] > 1e-6


def written_out(lambda_f: float, lambda_g: float) -> Losses:
    """g's loss sees f's features as constants; f's loss those of g after g's step."""

    def hsic(one: Tensor, other: Tensor) -> Tensor:
        return unbiased_hsic(gaussian_kernel(one, 0.5), gaussian_kernel(other, 0.5))

    def losses(
        f: nn.Module, own: Weights, g: nn.Module, biased: Weights, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        scores_f, features_f = call_with_features(f, own, inputs)
        scores_g, features_g = call_with_features(g, biased, inputs)
        of_g = F.cross_entropy(scores_g, targets) - lambda_g * hsic(features_f.detach(), features_g)
        _, stepped = call_with_features(g, descend(biased, of_g), inputs)
        return F.cross_entropy(scores_f, targets) + lambda_f * hsic(features_f, stepped), of_g

    return losses


@pytest.mark.parametrize("lambdas", [(1.0, 1.0), (0.5, 2.0)])
def test_one_step_is_the_one_written_out(lambdas: tuple[float, float]) -> None:
    settings = ("method.sigma=0.5", f"method.lambda_f={lambdas[0]}", f"method.lambda_g={lambdas[1]}")
    for differences in step_once("rebias", *settings, losses=written_out(*lambdas)):
        assert max(differences) < 1e-11


def test_negative_control_other_weights_of_the_dependence_are_seen() -> None:
    of_f, _ = step_once("rebias", "method.sigma=0.5", losses=written_out(1.5, 1.0))
    _, of_g = step_once("rebias", "method.sigma=0.5", losses=written_out(1.0, 1.5))
    assert max(of_f) > 1e-6
    assert max(of_g) > 1e-6


def test_colours_have_exact_counts_and_ink_is_white() -> None:
    labels = torch.arange(10).repeat(1000)
    for rho, own in ((0.98, 980), (0.1, 100), (1.0, 1000)):
        colours = draw_colours(labels, rho, "test")
        counts = torch.stack([colours[labels == k].bincount(minlength=10) for k in range(10)])
        assert counts.diagonal().tolist() == [own] * 10
        others = counts[~torch.eye(10, dtype=torch.bool)]
        assert others.max() - others.min() <= 1
    digits = torch.tensor([[[0, 1], [128, 255]]], dtype=torch.uint8)
    painted = paint(digits, torch.tensor([3]))
    assert painted[0, 0, 1].tolist() == painted[0, 1, 1].tolist() == [255, 255, 255], "any ink is white"
    assert painted[0, 0, 0].tolist() == [70, 90, 220]

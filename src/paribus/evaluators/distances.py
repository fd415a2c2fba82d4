"""How far apart two sets of images are, by their features: Fréchet distance, KID, precision and recall.

Pure functions of features (n, d) of real and (m, d) of generated images, computed in float64 on the features' device.
None draws anything: all pairs count, in blocks, so that 10,000 × 10,000 of them need some 50 MB.

Fréchet distance: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
NeurIPS 2017, arXiv 1706.08500. KID: Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv 1801.01401. Precision
and recall: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019,
arXiv 1904.06991.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 128  # of one set against all of the other at a time: blocks of 10 MB, which stay in a cache
_ROUNDING = 1e-12  # of the squared length of features: what equal ones may seem to lie apart


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½, with the covariances' divisor n − 1. Needs two rows of each.

    The trace of the root is the sum of the singular values of R₁ R₂ᵀ, where Rᵀ R = Σ by a QR decomposition of the
    centred features: R₁ᵀ R₁ R₂ᵀ R₂ has their squares as eigenvalues. No covariance is made and no root of one taken, so
    that features of a lower rank (fewer images than features, or units that never fire) lose no digits: the usual root
    of the eigenvalues of Σ₁ Σ₂ turns a rounding error of 10⁻¹⁶ in each null direction into one of 10⁻⁸.
    """
    first, second = (_split_mean(x) for x in (real, generated))
    cross = torch.linalg.svdvals(first.root @ second.root.T).sum()
    spread = first.root.square().sum() + second.root.square().sum()
    return float((first.mean - second.mean).square().sum() + spread - 2 * cross)


class _Moments(NamedTuple):
    """root: (min(n, d), d), R with Rᵀ R = the covariance."""

    mean: Tensor
    root: Tensor


def _split_mean(features: Tensor) -> _Moments:
    x = features.double()
    mean = x.mean(0)
    return _Moments(mean, torch.linalg.qr((x - mean) / (len(x) - 1) ** 0.5, mode="r").R)


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy under (x·y / d + 1)³, as it is: not times 1,000. It
    may fall below 0, and is 0 in the mean where both sets are of one distribution. Needs two rows of each."""
    n, m = len(real), len(generated)
    within = sum_of_kernel_within(real) / (n * (n - 1)) + sum_of_kernel_within(generated) / (m * (m - 1))
    return within - 2 * sum_of_kernel(real, generated) / (n * m)


def sum_of_kernel(rows: Tensor, columns: Tensor) -> float:
    """Over all pairs of a row of the one and a row of the other."""
    columns = columns.double()
    return float(sum(_kernel(block @ columns.T, columns.shape[1]).sum() for _, block in _blocks(rows)))


def sum_of_kernel_within(features: Tensor) -> float:
    """Over all ordered pairs of two different rows, each of which is computed once."""
    features, total = features.double(), 0.0
    d = features.shape[1]
    for start, block in _blocks(features):
        later = features[start + len(block) :]
        square = _kernel(block @ block.T, d)
        total += float(square.sum() - square.diagonal().sum() + 2 * _kernel(block @ later.T, d).sum())
    return total


def _kernel(products: Tensor, d: int) -> Tensor:
    """The products become the kernel."""
    kernel = products.div_(d).add_(1)
    return kernel.square() * kernel  # ** 3 takes 20 times as long


class PrecisionRecall(NamedTuple):
    """Shares of images, 0 to 1."""

    precision: float
    recall: float


def precision_and_recall(real: Tensor, generated: Tensor, neighbours: int = 3) -> PrecisionRecall:
    """precision: the share of generated images that lie no farther from some real image than its k-th nearest real one,
    k = neighbours; recall: the same with the roles swapped. Each set needs more than k rows."""
    middle = real.double().mean(0)  # near 0, squared distances lose fewer digits
    real, generated = real.double() - middle, generated.double() - middle
    of_real, of_generated = (squared_radii(x, neighbours) for x in (real, generated))
    slack = _ROUNDING * max(float(x.square().sum(1).max()) for x in (real, generated))
    inside = 0
    is_covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for start, block in _blocks(generated):
        far = squared_distances(block, real) - slack
        inside += int((far <= of_real).any(1).sum())
        is_covered |= (far <= of_generated[start : start + len(block), None]).any(0)
    return PrecisionRecall(inside / len(generated), int(is_covered.sum()) / len(real))


def squared_radii(features: Tensor, neighbours: int) -> Tensor:
    """(n,): of each row the squared distance to its k-th nearest other row."""
    radii: list[Tensor] = []
    for start, block in _blocks(features):
        far = squared_distances(block, features)
        far[torch.arange(len(block)), torch.arange(start, start + len(block))] = torch.inf  # itself
        radii.append(far.topk(neighbours, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """(n, m), those of equal rows 0 but for rounding, and none below 0."""
    lengths = rows.square().sum(1)[:, None] + columns.square().sum(1)
    return (lengths - 2 * rows @ columns.T).clamp_(min=0)


def _blocks(features: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Where it begins, and the rows, float64."""
    for start in range(0, len(features), _ROWS):
        yield start, features[start : start + _ROWS].double()

"""How strongly two sets of features of the same samples depend on each other: the Hilbert-Schmidt criterion.

HSIC₁ is its unbiased estimator (Song et al. 2012, equation 5). Everything here is differentiable and waits for nothing.
"""

import torch
from torch import Tensor


def squared_distances(features: Tensor) -> Tensor:
    """(n, d) to (n, n): between all pairs of rows; exactly 0 on the diagonal."""
    return (features[:, None] - features[None]).square().sum(2)


def gaussian_kernel(features: Tensor, sigma: float | None) -> Tensor:
    """(n, d) to (n, n): exp(−‖a − b‖² / 2σ²). sigma: None for the median distance between two rows, as a constant."""
    squared = squared_distances(features)
    if sigma is not None:
        return (-squared / (2 * sigma**2)).exp()
    with torch.no_grad():
        n = len(features)
        above = torch.triu(torch.ones(n, n, dtype=torch.bool, device=features.device), 1)
        # the median without a wait for the device: the pairs that do not count are sorted to the end
        ordered = torch.where(above, squared, torch.inf).flatten().sort().values
        median = ordered[(n * (n - 1) // 2 - 1) // 2].clamp(min=torch.finfo(squared.dtype).tiny)
    return (-squared / (2 * median)).exp()


def unbiased_hsic(kernel: Tensor, other: Tensor) -> Tensor:
    """HSIC₁ of two (n, n) kernel matrices of the same n ≥ 4 samples, a scalar; it may be negative.

    [tr(KL) + 1ᵀK1 · 1ᵀL1 / ((n−1)(n−2)) − 2 · 1ᵀKL1 / (n−2)] / (n(n−3))      with 0 on both diagonals
    """
    n = len(kernel)
    off = 1 - torch.eye(n, dtype=kernel.dtype, device=kernel.device)
    k, m = kernel * off, other * off
    trace = (k * m).sum()
    whole = k.sum() * m.sum() / ((n - 1) * (n - 2))
    shared = (k.sum(0) * m.sum(0)).sum() * 2 / (n - 2)
    return (trace + whole - shared) / (n * (n - 3))


def unbiased_hsic_within(kernel: Tensor, other: Tensor, members: Tensor) -> Tensor:
    """HSIC₁ of some of the n samples, a scalar, without a shape that depends on how many they are: 0 for fewer than the
    4 that it needs. members: (n,), 1 or 0."""
    m = members.to(kernel.dtype)
    among = m[:, None] * m[None] * (1 - torch.eye(len(m), dtype=kernel.dtype, device=kernel.device))
    count = m.sum()
    n = count.clamp(min=4)  # whatever is divided by stays away from 0
    k, o = kernel * among, other * among
    whole = k.sum() * o.sum() / ((n - 1) * (n - 2))
    shared = (k.sum(0) * o.sum(0)).sum() * 2 / (n - 2)
    return torch.where(count >= 4, ((k * o).sum() + whole - shared) / (n * (n - 3)), torch.zeros_like(whole))

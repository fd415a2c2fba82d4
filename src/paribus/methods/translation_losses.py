"""What the networks of a translation between domains minimise: StarGAN's losses (Choi et al. 2018, arXiv 1711.09020,
equations 1 to 6, with the Wasserstein loss of its section 3.3), for one network or for several side by side.

Each of several networks is for some of the domains, and its loss is the mean over the images of those. So an image has
a weight in each network's loss, and those of all networks are added up: they share no parameter.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.methods.adversarial_losses import Wasserstein
from paribus.methods.discriminator_penalties import squared_gradients


class DomainWeights(NamedTuple):
    """of: (n, nets), the weight of each image in each network's mean; its mean over the global batch is 1, or 0 if no
    image is of the network's domains. domains: (n, nets, known), the same spread over the domains that it is of."""

    of: Tensor
    domains: Tensor


def weigh(restricted: Tensor, size: int, total: Callable[[Tensor], Tensor]) -> DomainWeights:
    """restricted: (n, nets, known), how far an image is of each of a network's domains. size: images of the global
    batch. total: the sum over processes."""
    within = restricted.sum(2)
    scale = size / total(within.sum(0)).clamp(min=1e-6)  # without an image there is nothing to scale
    return DomainWeights(within * scale, restricted * scale[:, None])


def source_loss(real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
    """Of the discriminator, without its penalty: −D(x) + D(G(x, c')). All (n, nets); a scalar."""
    return Wasserstein().discriminator((weights * real).sum(1), (weights * fake).sum(1))


def deceive_loss(fake: Tensor, weights: Tensor) -> Tensor:
    """Of the generator: −D(G(x, c')). Both (n, nets); a scalar."""
    return Wasserstein().generator((weights * fake).sum(1))


def domain_loss(logits: Tensor, domains: Tensor) -> Tensor:
    """−log D_cls(c | x), equations 2 and 3. logits, domains: (n, nets, known), the latter of `DomainWeights`."""
    return -(domains * F.log_softmax(logits, 2)).sum((1, 2)).mean()


def reconstruction_loss(images: Tensor, back: Tensor, weights: Tensor) -> Tensor:
    """‖x − G(G(x, c'), c)‖₁, equation 4, the mean over pixels. images: (n, c, h, w). back: (n, nets, c, h, w)."""
    return (weights * (images[:, None] - back).abs().mean((2, 3, 4))).sum(1).mean()


def gradient_penalty(
    scores_of: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor, weights: Tensor
) -> Tensor:
    """(‖∇ D(x̂)‖₂ − 1)² at x̂ = ε x + (1 − ε) G(x, c'), of each network (Gulrajani et al. 2017, arXiv 1704.00028).

    scores_of: (n, nets, c, h, w) to (n, nets). real: (n, c, h, w). fake: (n, nets, c, h, w). share: (n,), ε.
    """
    e = share.to(real.dtype)[:, None, None, None, None]
    between = (e * real[:, None] + (1 - e) * fake).flatten(0, 1).detach().requires_grad_()
    scores = scores_of(between.view_as(fake))
    lengths = (squared_gradients(scores.flatten(), between) + 1e-12).sqrt()  # a root has no gradient at 0
    return (weights * (lengths.view_as(weights) - 1).square()).sum(1).mean()


def permute(size: int, key: Tensor) -> Tensor:
    """(size,) int64, a permutation, from as many numbers: the same on every device."""
    return torch.argsort(key[:size], stable=True)

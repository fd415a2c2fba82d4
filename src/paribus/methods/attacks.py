"""Attacks: a change of an image, too small to matter to an eye, that raises a network's loss as far as it can.

Goodfellow, Shlens & Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, arXiv 1412.6572 (FGSM);
Madry, Makelov, Schmidt, Tsipras & Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv 1706.06083 (PGD).

    FGSM   δ = Π(ε u(∇L(x, y))), which is PGD of one step of length ε from δ_0 = 0
    PGD    δ_0 = Π(uniform in the ball, or 0)        δ_{t+1} = Π(δ_t + α u(∇L(x + δ_t, y)))
    u(g)   sign g (linf)        g / ‖g‖₂ (l2), 0 where g is 0

L is the cross entropy with the labels, each image's by itself, x an image of pixels 0 to 1 before normalisation. Π
brings δ back into the ball ‖δ‖ ≤ ε and then x + δ back into the range of pixels. The first start is inside the range
too, where Madry et al.'s code clips only after its first step.

White-box attacks of first order, by nothing but the network's own gradient: a network whose gradient says little of its
loss (saturated, quantised, random) looks robust to them and need not be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.pixels import by_channel, to_pixels
from paribus.core.streams import uniform

Norm = Literal["linf", "l2"]
# of a change δ, (n, c, h, w) in the 0–1 range: the loss, summed over images, so that none touches another's gradient
LossOfChange = Callable[[Tensor], Tensor]


def ascend(change: Tensor, gradient: Tensor, size: float, norm: Norm) -> Tensor:
    """δ + α u(g). An image without a gradient stays where it is; a component that is not a number counts as 0."""
    gradient = gradient.nan_to_num()
    if norm == "linf":
        return change + size * gradient.sign()
    tiny = torch.finfo(gradient.dtype).tiny
    # first by the largest component: the square of a small one would be 0
    scaled = gradient / gradient.abs().amax((1, 2, 3), keepdim=True).clamp_min(tiny)
    return change + size * scaled / _length(scaled).clamp_min(tiny)


def project(change: Tensor, pixels: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Π. What is outside the range of pixels already (noise, rounding) may stay there, and is not moved further out."""
    if norm == "linf":
        change = change.clamp(-epsilon, epsilon)
    elif epsilon:
        change = change * (epsilon / _length(change).clamp_min(epsilon))
    else:
        change = torch.zeros_like(change)
    # no image gets longer in l2 here, since 0 is between the bounds
    return torch.minimum(torch.maximum(change, (-pixels).clamp(max=0)), (1 - pixels).clamp(min=0))


def spread(drawn: Tensor, pixels: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """A point in the ball for each image, uniform in it. drawn: (n, c · h · w + 1) numbers in [0, 1)."""
    drawn = drawn.to(pixels.dtype)
    if norm == "linf":
        return (2 * drawn[:, :-1] - 1).view(pixels.shape) * epsilon
    # normal numbers for a direction; the middles of 2^24 equal cells, so that none is infinite
    direction = torch.special.ndtri(drawn[:, :-1].double() + 2.0**-25).to(pixels.dtype).view(pixels.shape)
    radius = epsilon * drawn[:, -1] ** (1 / direction[0].numel())
    return direction / _length(direction) * radius[:, None, None, None]


def pgd(
    loss_of: LossOfChange,
    pixels: Tensor,
    start: Tensor | None,
    epsilon: float,
    step_size: float,
    steps: int,
    norm: Norm = "linf",
) -> Tensor:
    """δ after so many steps, the shape of the pixels. start: of δ, None for 0. epsilon, step_size: in the 0–1 range."""
    change = torch.zeros_like(pixels) if start is None else project(start, pixels, epsilon, norm)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = change.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss_of(leaf), leaf)  # of δ alone: no parameter gets a gradient
        change = project(ascend(change, gradient, step_size, norm), pixels, epsilon, norm)
    return change


@dataclass(frozen=True)
class Attack:
    """PGD on normalised inputs. epsilon, step_size: in units of 1/255. step_size: None for 2.5 · epsilon / steps, with
    which every point of the ball can be reached from every other. mean, std: what the inputs are normalised with."""

    norm: Norm
    epsilon: float
    steps: int
    step_size: float | None
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, network: nn.Module, inputs: Tensor, targets: Tensor, drawn: Tensor | None = None) -> Tensor:
        """The attacked inputs, of a network in the mode that it is in. targets: class ids, or weights of classes.
        drawn: for a start at random, as in `spread`."""
        if not self.epsilon:
            return inputs
        epsilon, size = self.epsilon / 255, self.step_size
        size = 2.5 * epsilon / self.steps if size is None else size / 255
        pixels = to_pixels(inputs, self.mean, self.std)
        per_unit = 1 / by_channel(self.std, inputs)

        def loss_of(change: Tensor) -> Tensor:
            scores = network(inputs + change * per_unit)
            return F.cross_entropy(
                scores if scores.dtype == torch.float64 else scores.float(), targets, reduction="sum"
            )

        start = None if drawn is None else spread(drawn, pixels, epsilon, self.norm)
        return inputs + pgd(loss_of, pixels, start, epsilon, size, self.steps, self.norm) * per_unit


def draw_starts(seed: int, name: str, key: int, ids: Tensor, like: Tensor) -> Tensor:
    """The numbers for `spread`, of the samples with these ids: the same in any batch and on any rank."""
    return uniform(seed, name, key, ids, like[0].numel() + 1)


def _length(change: Tensor) -> Tensor:
    return torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)

"""CutMix: a box of each training image is replaced by the same box of another one, and the labels mix by area.

Yun, Han, Oh, Chun, Choe & Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
ICCV 2019, arXiv 1905.04899, equations 1 and 2.

    x̃ = M ⊙ x_A + (1 − M) ⊙ x_B        ỹ = λ y_A + (1 − λ) y_B        λ ~ Beta(α, α)

M is 0 inside a box of height H√(1−λ) and width W√(1−λ) whose centre is uniform over the image; after the box is
clipped at the border, λ is set to the share of the image that is left of x_A.

What it changes   pixels and targets of a training batch; nothing else.
Hyperparameters   alpha = 1 (the paper's; its code calls it beta), prob = 1 on ImageNet and 0.5 for CIFAR's PyramidNet:
                  the chance that a batch is mixed at all.
As the authors    one λ, one box and one permutation for the whole batch (partners may be themselves); each half-side is
                  floor(floor(S√(1−λ)) / 2), so an unclipped box has even sides, and a box under 2 pixels is empty.
Deviations        numbers come from a named stream instead of NumPy's global generator, so seeds are not comparable with
                  theirs. The two cross entropies become one with soft targets, which is equal since the loss is
                  linear in them. λ is re-adjusted after clipping, as in their code since 2019-08-02 and in the paper.
Cost              one gather and one select of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.mixing import beta, check_batch, inside, soft
from paribus.core.progress import Progress
from paribus.core.streams import stream


@dataclass(frozen=True)
class Mix:
    """How each of n samples is mixed; row i belongs to place i of the global batch.

    partners: (n,) int64 places. box: (n, 4) int64, top, left, bottom, right; bottom and right are outside.
    lam: (n,) float64, the share of the sample itself.
    """

    partners: Tensor
    box: Tensor
    lam: Tensor

    def to(self, device: torch.device) -> Mix:
        return Mix(*(part.to(device, non_blocking=True) for part in (self.partners, self.box, self.lam)))

    def of(self, positions: Tensor) -> Mix:
        """The rows of these places."""
        return Mix(self.partners[positions], self.box[positions], self.lam[positions])


def rand_bbox(lam: float, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """The authors' box for a share `lam` of the original: (top, left, bottom, right), clipped to the image."""
    cut_ratio = (1.0 - lam) ** 0.5
    bounds: list[tuple[int, int]] = []
    for size in (height, width):
        half = int(size * cut_ratio) // 2
        centre = int(torch.randint(size, (), generator=generator))
        bounds.append((max(centre - half, 0), min(centre + half, size)))
    (top, bottom), (left, right) = bounds
    return top, left, bottom, right


def draw(n: int, height: int, width: int, alpha: float, prob: float, generator: torch.Generator) -> Mix | None:
    """The mix of a batch of n images, or None if this batch is left alone (with probability 1 − prob)."""
    if float(torch.rand((), generator=generator, dtype=torch.float64)) >= prob:
        return None
    lam = beta(alpha, generator)
    partners = torch.randperm(n, generator=generator)
    top, left, bottom, right = rand_bbox(lam, height, width, generator)
    lam = 1.0 - (bottom - top) * (right - left) / (height * width)
    box = torch.tensor([top, left, bottom, right]).expand(n, 4)
    return Mix(partners, box, torch.tensor(lam, dtype=torch.float64).expand(n))


def apply(
    inputs: Tensor, targets: Tensor, partner_inputs: Tensor, partner_targets: Tensor, mix: Mix
) -> tuple[Tensor, Tensor]:
    """Equation 1. inputs (n, c, h, w) of any dtype; targets (n, classes) weights; row i of each partner tensor
    belongs to sample i. Returns new tensors of the same kinds. No draw, no branch on a value: it compiles.
    """
    mask = inside(mix.box, *inputs.shape[-2:])  # the paper's 1 − M
    lam = mix.lam.to(targets.dtype)[:, None]
    return torch.where(mask, partner_inputs, inputs), lam * targets + (1 - lam) * partner_targets


def cutmix(
    inputs: Tensor,
    targets: Tensor,
    num_classes: int | None = None,
    alpha: float = 1.0,
    prob: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """CutMix of one batch, for any training loop; train with a cross entropy that takes soft targets.

    inputs: (n, c, h, w), any dtype, any device; not changed. targets: (n,) class ids, then num_classes is needed, or
    (n, classes) weights. alpha > 0, 0 <= prob <= 1. generator: a CPU generator; torch's global one if None.
    Returns mixed inputs and (n, classes) float targets. Raises ValueError for anything else.

    >>> x, y = cutmix(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), num_classes=3)
    >>> x.shape, y.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([4, 3]))
    """
    check_batch("CutMix", inputs, targets, num_classes)
    if not alpha > 0 or not 0 <= prob <= 1:
        raise ValueError(f"CutMix needs alpha > 0 and 0 <= prob <= 1, got alpha={alpha}, prob={prob}")
    weights = soft(targets, num_classes or 0, inputs)
    n, _, height, width = inputs.shape
    mix = draw(n, height, width, alpha, prob, generator or torch.default_generator)
    if mix is None:
        return inputs, weights
    mix = mix.to(inputs.device)
    return apply(inputs, weights, inputs[mix.partners], weights[mix.partners], mix)


@schema
class CutMix:
    """The transform. alpha: of Beta(alpha, alpha). prob: chance that a batch is mixed, 0–1; a batch that is not
    mixed is passed on untouched, so prob = 0 is exactly the baseline."""

    alpha: Annotated[float, Field(gt=0)] = 1.0
    prob: Annotated[float, Field(ge=0, le=1)] = 1.0

    def draw(self, at: Progress, n: int, height: int, width: int) -> Mix | None:
        """The mix of the whole global batch of this step, on the CPU; the same on every rank."""
        return draw(n, height, width, self.alpha, self.prob, stream(at.seed, "cutmix", at.step))

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        drawn = self.draw(at, batch.size, *batch.inputs.shape[-2:])
        if drawn is None:
            return batch
        mix = drawn.to(batch.inputs.device)
        return batch.through(lambda part: mixed(part, mix))


def mixed(part: Batch, mix: Mix) -> Batch:
    """Any part of a global batch, mixed with its partners from the whole of it."""
    here = mix.of(part.positions)
    partner = part.peers(here.partners)
    own, others = (soft(b.targets, b.classes, b.inputs) for b in (part, partner))
    inputs, targets = apply(part.inputs, own, partner.inputs, others, here)
    return replace(part, inputs=inputs, targets=targets)

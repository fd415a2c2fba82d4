"""Mixup: every training image is a weighted sum of two, and so is its label.

Zhang, Cisse, Dauphin & Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv 1710.09412, equation 1.

    x̃ = λ x_A + (1 − λ) x_B        ỹ = λ y_A + (1 − λ) y_B        λ ~ Beta(α, α)

What it changes   pixels and targets of a training batch; nothing else.
Hyperparameters   alpha = 1, the default of the authors' CIFAR code; 0 switches mixing off, as theirs does.
As the authors    one λ and one permutation for the whole batch, λ drawn first (partners may be themselves); pixels are
                  mixed after augmentation and normalisation; every batch is mixed.
Deviations        random numbers come from a named stream instead of the global generators, so seeds are not comparable
                  with theirs. The two cross entropies become one with soft targets, which is equal since the loss is
                  linear in them.
Cost              one gather of the batch, two products and a sum in place; no wait for the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.mixing import check_batch, explain_bad_ids, mix_targets, sample_betas, target_dtype, to_soft_targets
from paribus.core.progress import Progress
from paribus.core.streams import stream


@dataclass(frozen=True)
class BlendMix:
    """How each of n samples is mixed; row i belongs to position i of the global batch.

    partners: (n,) int64 positions. lam: float64, the share of the sample itself, (n,), or (1,) where all share one.
    """

    partners: Tensor
    lam: Tensor

    def to(self, device: torch.device) -> BlendMix:
        return BlendMix(*(part.to(device, non_blocking=True) for part in (self.partners, self.lam)))

    def select(self, positions: Tensor) -> BlendMix:
        """The rows of these positions."""
        return BlendMix(self.partners[positions], self.lam if len(self.lam) == 1 else self.lam[positions])


def draw(n: int, alpha: float, generator: torch.Generator) -> BlendMix | None:
    """The mix of a batch of n images, or None for alpha = 0, where λ = 1 always."""
    if alpha == 0:
        return None
    lam = sample_betas(alpha, 1, generator)
    return BlendMix(torch.randperm(n, generator=generator), lam)


def apply(
    inputs: Tensor, targets: Tensor, partner_inputs: Tensor, partner_targets: Tensor, mix: BlendMix, classes: int = 0
) -> tuple[Tensor, Tensor]:
    """Equation 1. inputs (n, c, h, w) floats; targets (n, classes) weights, or (n,) ids with their number of `classes`;
    row i of each partner tensor belongs to sample i. Returns new tensors, pixels in the inputs' memory format. No
    random number, no data-dependent branch: it compiles.

    λ and 1 − λ are rounded from float64 once each, as when they are Python numbers.
    """
    share, rest = (part.to(inputs.dtype)[:, None, None, None] for part in (mix.lam, 1 - mix.lam))
    mixed = (share * inputs).add_(rest * partner_inputs)
    share, rest = (part.to(target_dtype(inputs, targets)) for part in (mix.lam, 1 - mix.lam))
    return mixed, mix_targets(targets, partner_targets, share, rest, classes)


def mixup(
    inputs: Tensor,
    targets: Tensor,
    num_classes: int | None = None,
    alpha: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mixup of one batch, for any training loop; train with a cross entropy that takes soft targets.

    inputs: (n, c, h, w) floats, any device; not changed. targets: (n,) class ids, then num_classes is needed, or
    (n, classes) weights. alpha >= 0. generator: a CPU generator; torch's global one if None.
    Returns mixed inputs in their memory format, or with alpha = 0 the inputs themselves, and (n, classes) targets: the
    weights' type, or float32 (float64 for float64 inputs) for ids. Raises ValueError for anything else.

    >>> x, y = mixup(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), num_classes=3)
    >>> x.shape, y.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([4, 3]))
    """
    if not inputs.is_floating_point():
        raise ValueError(f"Mixup needs inputs of a floating-point type, got {inputs.dtype}; normalise them first")
    if not alpha >= 0:
        raise ValueError(f"Mixup needs alpha >= 0, got alpha={alpha}")
    check_batch("Mixup", inputs, targets, num_classes)
    classes = num_classes or 0
    drawn = draw(inputs.shape[0], alpha, generator or torch.default_generator)
    with explain_bad_ids("Mixup", targets, classes):
        if drawn is None:
            return inputs, to_soft_targets(targets, classes, target_dtype(inputs, targets))
        mix = drawn.to(inputs.device)
        return apply(inputs, targets, inputs[mix.partners], targets[mix.partners], mix, classes)


@schema
class Mixup:
    """The transform. alpha: of Beta(alpha, alpha); with 0 a batch is returned unchanged, which is exactly the
    baseline."""

    alpha: Annotated[float, Field(ge=0)] = 1.0

    def draw(self, at: Progress, n: int) -> BlendMix | None:
        """The mix of the whole global batch of this step, on the CPU; the same on every rank."""
        return draw(n, self.alpha, stream(at.seed, "mixup", at.step))

    def partners(self, at: Progress, n: int) -> Tensor | None:
        """Whom each sample of this step's global batch is mixed with; None if nothing is mixed."""
        mix = self.draw(at, n)
        return None if mix is None else mix.partners

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        mix = self.draw(at, batch.size)
        return batch if mix is None else batch.apply(lambda part: mix_part(part, mix))


def mix_part(part: Batch, mix: BlendMix) -> Batch:
    """Any part of a global batch, mixed with its partners from the whole of it; `mix` on the CPU."""
    device, known = part.inputs.device, part.host_positions
    # with them the host need not wait to find the partners
    here = mix.to(device).select(part.positions) if known is None else mix.select(known)
    partner = part.peers(here.partners)
    inputs, targets = apply(part.inputs, part.targets, partner.inputs, partner.targets, here.to(device), part.classes)
    return replace(part, inputs=inputs, targets=targets)

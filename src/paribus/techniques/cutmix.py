"""CutMix: a box of each training image is replaced by the same box of another one, and the labels mix by area.

Yun, Han, Oh, Chun, Choe & Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
ICCV 2019, arXiv 1905.04899, equations 1 and 2.

    x̃ = M ⊙ x_A + (1 − M) ⊙ x_B        ỹ = λ y_A + (1 − λ) y_B        λ ~ Beta(α, α)

M is 0 inside a box of height H√(1−λ) and width W√(1−λ) whose centre is uniform over the image; after the box is
clipped at the border, λ is set to the share of the image that is left of x_A.

What it changes   pixels and targets of a training batch; nothing else.
Hyperparameters   alpha = 1 (the paper's; its code calls it beta), prob = 1 on ImageNet and 0.5 for CIFAR's PyramidNet:
                  the chance that a batch is mixed at all.
As the authors    by default: one λ, one box and one permutation for the whole batch (partners may be themselves); each
                  half-side is floor(floor(S√(1−λ)) / 2), so an unclipped box has even sides, and a box under 2 pixels
                  is empty.
Variants          Four fields choose what public implementations do differently; VARIANTS names the combinations.

                  variant       box      partner      per     correct_lam  mirrors
                  authors       authors  permutation  batch   true         clovaai/CutMix-PyTorch since 2019-08-02
                  first         authors  permutation  batch   false        clovaai/CutMix-PyTorch before, f0c71b1
                  torchvision   authors  roll         batch   true         torchvision 0.29 transforms.v2.CutMix
                  timm          timm     flip         batch   true         timm 1.0.31 Mixup(cutmix_alpha=1)
                  timm_elem     timm     flip         sample  true         timm 1.0.31 Mixup(mode="elem")
                  ildoonet      authors  permutation  sample  true         ildoonet/cutmix
                  openmixup     authors  derangement  batch   true         Westlake-AI/openmixup

                  Not mirrored: ildoonet's partners from outside the batch, which cost a second batch of decoding;
                  timm's even batch, label smoothing (objective.smoothing has it), ratio_minmax, pair and half.
Deviations        random numbers come from a named stream instead of NumPy's global generator, so seeds are not
                  comparable with theirs. The two cross entropies become one with soft targets, which is equal since the
                  loss is linear in them. Processes share one global batch, where the authors' DataParallel had one
                  process and timm draws for each rank.
Cost              one copy of the batch and one gather of the box, no wait for the device. One thread of an AMD EPYC,
                  torch 2.15, everything included: 0.12 ms for 128 images of 32 pixels and 17 ms for 64 of 224
                  (torchvision 0.15 and 33; timm, which overwrites the batch, 0.10 and 18: experiments/bench), which is
                  0.02 % of the step of a ResNet-18 at 32 pixels. A box for each sample takes seven times as long at 32
                  pixels and 1.1 times at 224.
Good to know      Boxes are clipped, so at 32 pixels 29.9 % of an image is pasted on average, not 50 %; pixels in the
                  middle are pasted more often than those at the border. Training accuracy against either label means
                  little, so none is logged. The published numbers are the best epoch on the test set, about a point
                  above the last with CutMix and 0.2 without (clovaai/CutMix-PyTorch issue 7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypedDict, Unpack

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import instantiate, schema
from paribus.core.mixing import (
    PartnerRule,
    box_mask,
    check_batch,
    draw_partners,
    explain_bad_ids,
    mix_targets,
    sample_beta,
    sample_betas,
    target_dtype,
    to_soft_targets,
)
from paribus.core.progress import Progress
from paribus.core.streams import stream

Box = Literal["authors", "timm"]


@dataclass(frozen=True)
class BoxMix:
    """How each of n samples is mixed; row i belongs to position i of the global batch.

    partners: (n,) int64 positions. box_tlbr: (n, 4) int64, top, left, bottom, right in pixels, the last two outside.
    lam: (n,) float64, the weight of the sample's own target. box_tlbr and lam have one row where all samples share it.
    """

    partners: Tensor
    box_tlbr: Tensor
    lam: Tensor

    @staticmethod
    def unmixed(n: int) -> BoxMix:
        """Empty boxes and λ = 1: tensors for `copy_`, each sample with a row of its own."""
        return BoxMix(torch.arange(n), torch.zeros(n, 4, dtype=torch.int64), torch.ones(n, dtype=torch.float64))

    def to(self, device: torch.device | str) -> BoxMix:
        return BoxMix(*(part.to(device, non_blocking=True) for part in (self.partners, self.box_tlbr, self.lam)))

    def select(self, positions: Tensor) -> BoxMix:
        """The rows of these positions."""
        shared = len(self.lam) == 1
        return BoxMix(self.partners[positions], *(p if shared else p[positions] for p in (self.box_tlbr, self.lam)))

    def copy_(self, drawn: BoxMix | None) -> None:
        """Overwrite these tensors, which a captured CUDA graph reads, with a new draw; None mixes nothing."""
        if drawn is None:
            self.box_tlbr.zero_()
            self.lam.fill_(1)
            return
        self.partners.copy_(drawn.partners, non_blocking=True)
        self.box_tlbr.copy_(drawn.box_tlbr, non_blocking=True)
        self.lam.copy_(drawn.lam, non_blocking=True)


def bbox(lam: float, centre: tuple[int, int], height: int, width: int, rule: Box) -> tuple[int, int, int, int]:
    """The box for a share `lam` of the original around a centre (row, column): (top, left, bottom, right), clipped.

    authors: half a side, rounded down, to either side of the centre; torchvision 0.29 does the same.
    timm (1.0.31; until 1.0.29 it did as the authors): an odd side keeps its last pixel, so at 32 pixels 31.0 % of an
    image is pasted on average.
    """
    odd = 1 if rule == "timm" else 0
    bounds: list[tuple[int, int]] = []
    for size, middle in zip((height, width), centre, strict=True):
        side = int(size * math.sqrt(1.0 - lam))
        bounds.append((max(middle - side // 2, 0), min(middle + (side + odd) // 2, size)))
    (top, bottom), (left, right) = bounds
    return top, left, bottom, right


def bboxes(lam: Tensor, centre: Tensor, height: int, width: int, rule: Box) -> Tensor:
    """`bbox` for (n,) shares and (n, 2) centres at once: (n, 4)."""
    odd, size = 1 if rule == "timm" else 0, torch.tensor((height, width))
    ratio = torch.from_numpy(np.sqrt(1.0 - lam.numpy()))  # torch's own sqrt(1 − 2⁻⁵³) is 1 with MKL: a pixel too many
    side = (size * ratio[:, None]).long()
    return torch.cat(((centre - side // 2).clamp_(min=0), torch.minimum(centre + (side + odd) // 2, size)), 1)


def draw(n: int, height: int, width: int, rule: CutMix, generator: torch.Generator) -> BoxMix | None:
    """The mix of n images on the CPU, or None if nothing is mixed.

    Drawn in this order: whether (against prob), λ, partners, the centre's row, its column.
    """
    if rule.per == "sample":
        return _draw_per_sample(n, height, width, rule, generator)
    if float(torch.rand((), generator=generator, dtype=torch.float64)) >= rule.prob:
        return None
    lam = sample_beta(rule.alpha, generator)
    partners = draw_partners(rule.partner, n, generator)
    row, column = (int(torch.randint(size, (), generator=generator)) for size in (height, width))
    top, left, bottom, right = bbox(lam, (row, column), height, width, rule.box)
    if rule.correct_lam:
        lam = 1.0 - (bottom - top) * (right - left) / (height * width)
    return BoxMix(partners, torch.tensor([[top, left, bottom, right]]), torch.tensor([lam], dtype=torch.float64))


def _draw_per_sample(n: int, height: int, width: int, rule: CutMix, generator: torch.Generator) -> BoxMix | None:
    mixed = torch.rand(n, generator=generator, dtype=torch.float64) < rule.prob
    if not mixed.any():
        return None
    lam = sample_betas(rule.alpha, n, generator).where(mixed, 1.0)  # λ = 1 makes the box empty
    partners = draw_partners(rule.partner, n, generator)
    centre = torch.stack([torch.randint(size, (n,), generator=generator) for size in (height, width)], 1)
    box = bboxes(lam, centre, height, width, rule.box)
    if rule.correct_lam:
        lam = 1.0 - (box[:, 2:] - box[:, :2]).prod(1).double() / (height * width)
    return BoxMix(partners, box, lam)


def apply(
    inputs: Tensor, targets: Tensor, partner_inputs: Tensor, partner_targets: Tensor, mix: BoxMix, classes: int = 0
) -> tuple[Tensor, Tensor]:
    """Equation 1 for tensors whose values the host need not know: it compiles as one graph, and a CUDA graph takes new
    boxes at each replay.

    inputs (n, c, h, w) of any dtype; targets (n, classes) weights, or (n,) ids with their number of `classes`; row i of
    each partner tensor belongs to sample i. Returns new tensors, pixels in the inputs' memory format.

        static = BoxMix.unmixed(n).to("cuda")
        with torch.cuda.graph(graph):
            x, y = apply(inputs, ids, inputs[static.partners], ids[static.partners], static, classes=10)
        static.copy_(draw(n, 32, 32, CutMix(), generator))
        graph.replay()
    """
    outside = ~box_mask(mix.box_tlbr, *inputs.shape[-2:])  # the paper's M
    return torch.where(outside, inputs, partner_inputs), _mix_labels(inputs, targets, partner_targets, mix.lam, classes)


def paste(inputs: Tensor, others: Tensor, rows: Tensor, box_tlbr: Tensor) -> Tensor:
    """Equation 1's pixels, bit for bit those of `apply`, for boxes on the CPU: (n, 4), or (1, 4) for all samples.

    Sample i takes its box of others[rows[i]]. Only boxes are gathered, which on a CPU takes a quarter to a tenth of the
    time of `apply`. If each sample has its own box, inputs must be on the CPU too: it is one slice after another.
    """
    out = inputs.clone()
    if len(box_tlbr) == 1:
        ((top, left, bottom, right),) = box_tlbr.tolist()
        inside_of_others, inside_of_out = (
            images.narrow(2, top, bottom - top).narrow(3, left, right - left) for images in (others, out)
        )
        torch.index_select(inside_of_others, 0, rows, out=inside_of_out)
        return out
    source = others.unbind()
    for image, row, (top, left, bottom, right) in zip(out.unbind(), rows.tolist(), box_tlbr.tolist(), strict=True):
        if top < bottom and left < right:
            image[:, top:bottom, left:right] = source[row][:, top:bottom, left:right]
    return out


def mix_tensors(
    inputs: Tensor, targets: Tensor, others: Tensor, labels: Tensor, rows: Tensor, mix: BoxMix, classes: int
) -> tuple[Tensor, Tensor]:
    """Both halves of equation 1 for sample i and others[rows[i]] with labels[rows[i]]: by `paste` if the host knows the
    boxes and no gradient of the pixels is needed, else by `apply`. rows and mix: CPU or the inputs' device.
    """
    device = inputs.device
    rows = rows.to(device, non_blocking=True)
    grad = torch.is_grad_enabled() and (inputs.requires_grad or others.requires_grad)
    if grad or not mix.box_tlbr.is_cpu or not (inputs.is_cpu or len(mix.box_tlbr) == 1):
        return apply(inputs, targets, others[rows], labels[rows], mix.to(device), classes)
    lam = mix.lam.to(device, non_blocking=True)
    return paste(inputs, others, rows, mix.box_tlbr), _mix_labels(
        inputs, targets, labels.index_select(0, rows), lam, classes
    )


def _mix_labels(inputs: Tensor, own: Tensor, other: Tensor, lam: Tensor, classes: int) -> Tensor:
    share = lam.to(target_dtype(inputs, own))
    return mix_targets(own, other, share, 1 - share, classes)


def cutmix(
    inputs: Tensor,
    targets: Tensor,
    num_classes: int | None = None,
    alpha: float = 1.0,
    prob: float = 1.0,
    generator: torch.Generator | None = None,
    **variant: Unpack[Variant],
) -> tuple[Tensor, Tensor]:
    """CutMix of one batch, for any training loop; train with a cross entropy that takes soft targets.

    inputs: (n, c, h, w), any dtype, any device; not changed. targets: (n,) class ids, then num_classes is needed, or
    (n, classes) weights. alpha > 0, 0 <= prob <= 1. generator: a CPU generator; torch's global one if None.
    variant: box, partner, per, correct_lam as in `CutMix`, e.g. **VARIANTS["timm"].
    Returns mixed inputs in their memory format, or the inputs themselves if nothing is mixed, and (n, classes) targets:
    the weights' type, or float32 (float64 for float64 inputs) for ids. Raises ValueError for anything else.

    >>> x, y = cutmix(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), num_classes=3)
    >>> x.shape, y.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([4, 3]))
    """
    rule = instantiate(CutMix, {"alpha": alpha, "prob": prob, **variant}, "CutMix")
    check_batch("CutMix", inputs, targets, num_classes)
    classes = num_classes or 0
    n, _, height, width = inputs.shape
    mix = draw(n, height, width, rule, generator or torch.default_generator)
    with explain_bad_ids("CutMix", targets, classes):
        if mix is None:
            return inputs, to_soft_targets(targets, classes, target_dtype(inputs, targets))
        return mix_tensors(inputs, targets, inputs, targets, mix.partners, mix, classes)


class Variant(TypedDict, total=False):
    """The fields of `CutMix` in which public implementations differ."""

    box: Box
    partner: PartnerRule
    per: Literal["batch", "sample"]
    correct_lam: bool


VARIANTS: dict[str, Variant] = {
    "authors": {},
    "first": {"correct_lam": False},
    "torchvision": {"partner": "roll"},
    "timm": {"box": "timm", "partner": "flip"},
    "timm_elem": {"box": "timm", "partner": "flip", "per": "sample"},
    "ildoonet": {"per": "sample"},
    "openmixup": {"partner": "derangement"},
}


@schema
class CutMix:
    """The transform. alpha: of Beta(alpha, alpha). prob: chance that a batch is mixed, 0–1; a batch that is not mixed
    is returned unchanged, so prob = 0 is exactly the baseline.

    box: how a side becomes pixels (`bbox`). partner: which sample each one is mixed with (`draw_partners`). per:
    whether decision, λ and box are drawn for each batch or each sample. correct_lam: λ is the share of pixels that
    stay; if false it is as drawn, and the partner's label weighs more than its pixels.
    """

    alpha: Annotated[float, Field(gt=0)] = 1.0
    prob: Annotated[float, Field(ge=0, le=1)] = 1.0
    box: Box = "authors"
    partner: PartnerRule = "permutation"
    per: Literal["batch", "sample"] = "batch"
    correct_lam: bool = True

    def draw(self, at: Progress, n: int, height: int, width: int) -> BoxMix | None:
        """The mix of the whole global batch of this step, on the CPU; the same on every rank."""
        return draw(n, height, width, self, stream(at.seed, "cutmix", at.step))

    def partners(self, at: Progress, n: int) -> Tensor | None:
        """Whom each sample of this step's global batch is mixed with; None if nothing is mixed."""
        mix = self.draw(at, n, 1, 1)  # partners are drawn before anything that depends on the size
        return None if mix is None else mix.partners

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        mix = self.draw(at, batch.size, *batch.inputs.shape[-2:])
        return batch if mix is None else batch.apply(lambda part: mix_part(part, mix))


def mix_part(part: Batch, mix: BoxMix) -> Batch:
    """Any part of a global batch, mixed with its partners from the whole of it; `mix` on the CPU."""
    partner, rows = part, mix.partners
    if part.fetch is not None:
        here = part.host_positions  # with them the host need not wait to find the partners
        mix = mix.to(part.inputs.device).select(part.positions) if here is None else mix.select(here)
        partner, rows = part.peers(mix.partners), torch.arange(len(part))
    inputs, targets = mix_tensors(part.inputs, part.targets, partner.inputs, partner.targets, rows, mix, part.classes)
    return replace(part, inputs=inputs, targets=targets)

"""Shared by the techniques that mix or mask images, so that none imports another: mixing ratios from a Beta
distribution, partners, box masks, soft targets."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.core.renamed import old_names

PartnerRule = Literal["permutation", "derangement", "roll", "flip"]


def sample_beta(alpha: float, generator: torch.Generator) -> float:
    """One number from Beta(alpha, alpha): what `sample_betas` draws for n = 1, to rounding, in half the time."""
    gammas, uniforms = _sample_gammas(alpha, 1, generator)
    (a, b), (u, v) = gammas.tolist()[0], uniforms.tolist()[0]
    tiny = 2.0**-1074  # for a uniform number that is exactly 0
    difference = math.log(b) - math.log(a) + (math.log(v or tiny) - math.log(u or tiny)) / alpha
    return 1.0 / (1.0 + math.exp(difference)) if difference < 709 else 0.0  # beyond, exp overflows


def sample_betas(alpha: float, n: int, generator: torch.Generator) -> Tensor:
    """n numbers from Beta(alpha, alpha), (n,) float64, each as the share of the first of two Gamma(alpha) numbers.

    In logarithms, with Gamma(a) = Gamma(a + 1) · U^(1/a): for a small alpha the Gammas themselves would underflow.
    """
    gammas, uniforms = _sample_gammas(alpha, n, generator)
    first, second = (gammas.log_() + uniforms.log_() / alpha).unbind(1)
    return torch.sigmoid(first - second)


def _sample_gammas(alpha: float, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n, 2) numbers from Gamma(alpha + 1) and as many uniform ones."""
    concentration = torch.full((n, 2), alpha + 1, dtype=torch.float64)
    # torch.distributions takes no generator; this is what its Gamma calls
    gammas = torch._standard_gamma(concentration, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    return gammas, torch.rand(n, 2, dtype=torch.float64, generator=generator)


def draw_partners(rule: PartnerRule, n: int, generator: torch.Generator) -> Tensor:
    """The partner of each of n samples, (n,) int64; every rule uses each sample once.

    permutation: uniform over all. derangement: uniform over those in which no sample is its own partner (n = 1 has
    none). roll: the sample before, cyclic. flip: the batch in reverse. The last two draw no random numbers.
    """
    indices = torch.arange(n)
    match rule:
        case "roll":
            return indices.roll(1)
        case "flip":
            return indices.flip(0)
        case "permutation" | "derangement":
            partners = torch.randperm(n, generator=generator)
            while rule == "derangement" and n > 1 and (partners == indices).any():  # e ≈ 2.7 times on average
                partners = torch.randperm(n, generator=generator)
            return partners


def box_mask(box_tlbr: Tensor, height: int, width: int) -> Tensor:
    """(n, 4) boxes (top, left, bottom, right; the last two exclusive) to an (n, 1, height, width) mask, true
    inside."""
    top, left, bottom, right = box_tlbr.unbind(1)
    y = torch.arange(height, device=box_tlbr.device)
    x = torch.arange(width, device=box_tlbr.device)
    in_rows = (y >= top[:, None]) & (y < bottom[:, None])
    in_columns = (x >= left[:, None]) & (x < right[:, None])
    return in_rows[:, None, :, None] & in_columns[:, None, None, :]


def check_batch(name: str, inputs: Tensor, targets: Tensor, classes: int | None) -> None:
    """Raise ValueError unless inputs are (n, c, h, w) and targets (n,) ids or (n, classes) floats, by their shapes and
    types alone."""
    if inputs.ndim != 4:
        raise ValueError(f"{name} needs inputs of shape (n, c, h, w), got {tuple(inputs.shape)}")
    if targets.ndim not in (1, 2) or len(targets) != len(inputs):
        raise ValueError(
            f"{name} needs targets (n,) or (n, classes) for {len(inputs)} inputs, got {tuple(targets.shape)}"
        )
    if targets.ndim == 2:
        if not targets.is_floating_point():
            raise ValueError(f"{name} needs (n, classes) targets of a floating-point type, got {targets.dtype}")
        if classes is not None and targets.shape[1] != classes:
            raise ValueError(f"{name} needs targets of num_classes={classes} columns, got {tuple(targets.shape)}")
        return
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"{name} needs class ids of an integer type, got {targets.dtype}")
    if classes is None:
        raise ValueError(f"{name} needs num_classes to turn class ids into soft targets")


@contextmanager
def explain_bad_ids(name: str, targets: Tensor, classes: int) -> Iterator[None]:
    """Turn torch's error about a class id outside 0..classes − 1 into a ValueError that names the ids.

    On a CPU only, and only after torch's error: checking the ids first would cost a pass over them, and on a GPU the
    host would have to wait for it.
    """
    try:
        yield
    except RuntimeError as error:
        if targets.ndim != 1 or not targets.is_cpu:
            raise
        low, high = int(targets.min()), int(targets.max())
        if low >= 0 and high < classes:
            raise
        raise ValueError(f"{name} needs class ids from 0 to {classes - 1}, got {low} to {high}") from error


def target_dtype(inputs: Tensor, targets: Tensor) -> torch.dtype:
    """The dtype of mixed targets: that of given weights; for class ids float32, or float64 if the inputs are."""
    if targets.ndim == 2:
        return targets.dtype
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def to_soft_targets(targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Class ids (n,) to weights (n, classes); weights pass through as they are."""
    return F.one_hot(targets.long(), classes).to(dtype) if targets.ndim == 1 else targets


def mix_targets(own: Tensor, other: Tensor, share: Tensor, rest: Tensor, classes: int) -> Tensor:
    """share · own + rest · other as weights (n, classes), in the type of `share`. own, other: (n,) ids or (n, classes)
    weights. share, rest: (n,) or (1,).

    Ids are scattered: two dense products would cost several times as much at 1000 classes, and give the same bits.
    """
    if own.ndim == other.ndim == 1:
        ids, shares = torch.stack((own, other), 1).long(), torch.stack((share, rest), 1)
        # at most two numbers meet in one place, so the order of a GPU's atomic additions cannot matter
        return share.new_zeros(len(own), classes).scatter_add_(1, ids, shares.expand(len(own), 2))
    own, other = (to_soft_targets(targets, classes, share.dtype) for targets in (own, other))
    return share[:, None] * own + rest[:, None] * other


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__,
        {
            "told_ids": "explain_bad_ids",
            "inside": "box_mask",
            "soft": "to_soft_targets",
            "label_type": "target_dtype",
            "mixed_targets": "mix_targets",
            "beta": "sample_beta",
            "betas": "sample_betas",
            "Partner": "PartnerRule",
        },
    )

"""CutMix and Mixup beside timm's Mixup and torchvision's transforms.

Each implementation draws boxes and shares with its own generator, so the check does not force a draw: it reads partner
and share of each sample from the targets (in the check every sample is its own class) and checks whether the pixels
agree with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

import paribus
from paribus.bench.harness.implementation import (
    Case,
    Implementation,
    PreparedImplementation,
    Scope,
    SpeedTarget,
    Unavailable,
    require_package,
)
from paribus.core.streams import stream

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Technique = Literal["cutmix", "mixup"]
SIZES = ((32, 128, 10), (224, 64, 1000))  # pixels a side, batch, classes
FORMATS = (torch.contiguous_format, torch.channels_last)
DRAWS = 4
TOLERANCE = 1e-5


def read_pairing(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(n, n) targets of samples that are each their own class, to partners (n,) and own shares (n,)."""
    own = weights.diagonal()
    others = weights - torch.diag(own)
    partners = torch.where(others.amax(1) > 0, others.argmax(1), torch.arange(len(weights), device=weights.device))
    return partners, own


def cutmix_error(before: Tensor, mixed: Tensor, weights: Tensor) -> float:
    """The largest |target weight − share of pixels|; inf unless the pasted pixels are one box of the one partner."""
    partners, own = read_pairing(weights)
    if not _are_valid_weights(weights) or mixed.shape != before.shape:
        return float("inf")
    pasted = (mixed != before).any(1)
    rows, columns = pasted.any(2), pasted.any(1)
    rectangle = rows[:, :, None] & columns[:, None, :]
    one_piece = _are_one_run(rows) & _are_one_run(columns)
    from_partner = torch.equal(torch.where(pasted[:, None], before[partners], before), mixed)
    if not torch.equal(rectangle, pasted) or not bool(one_piece.all()) or not from_partner:
        return float("inf")
    here = torch.arange(len(own), device=own.device)
    share = 1 - pasted.flatten(1).double().mean(1)
    # a sample that is its own partner shows no box, and its weight is 1 whatever the box was
    return float((own.double() - torch.where(partners == here, 1.0, share)).abs().max())


def mixup_error(before: Tensor, mixed: Tensor, weights: Tensor) -> float:
    """The largest |pixel − weighted sum of the two|, of pixels in [0, 1); inf unless the weights are shares of two."""
    partners, own = read_pairing(weights)
    if not _are_valid_weights(weights) or mixed.shape != before.shape:
        return float("inf")
    share = own.double().reshape(-1, 1, 1, 1)
    return float((mixed - (share * before + (1 - share) * before[partners])).abs().max())


def _are_valid_weights(weights: Tensor) -> bool:
    """Of at most two, none negative, summing to 1."""
    two = bool(((weights != 0).sum(1) <= 2).all())
    return two and bool((weights >= 0).all()) and bool(((weights.sum(1) - 1).abs() < TOLERANCE).all())


def _are_one_run(line: Tensor) -> Tensor:
    """(n, s) booleans: True where those set are one run, or none is."""
    starts = line[:, :1].long().sum(1) + (line[:, 1:] & ~line[:, :-1]).sum(1)
    return starts <= 1


def _paribus_mixer(technique: Technique, **rule: str) -> Callable[[int], Mixer]:
    """rule: options that make it do as another library; Unavailable if this version of paribus lacks them."""
    mix: Callable[..., tuple[Tensor, Tensor]] = getattr(paribus, technique)

    def make(classes: int) -> Mixer:
        try:
            mix(torch.zeros(2, 1, 2, 2), torch.arange(2), num_classes=2, **rule)
        except TypeError as refusal:
            raise Unavailable("not available", f"this paribus has no choice of {', '.join(rule)}") from refusal
        return lambda x, y: mix(x, y, num_classes=classes, alpha=1.0, **rule)

    return make


def _timm_mixer(technique: Technique) -> Callable[[int], Mixer]:
    def make(classes: int) -> Mixer:
        require_package("timm")
        from timm.data.mixup import Mixup

        alphas: dict[str, Any] = {f"{name}_alpha": float(name == technique) for name in ("cutmix", "mixup")}
        return Mixup(**alphas, label_smoothing=0.0, num_classes=classes)

    return make


def _torchvision_mixer(technique: Technique) -> Callable[[int], Mixer]:
    def make(classes: int) -> Mixer:
        require_package("torchvision")
        from torchvision.transforms import v2

        return {"cutmix": v2.CutMix, "mixup": v2.MixUp}[technique](alpha=1.0, num_classes=classes)

    return make


RULES: dict[Technique, dict[str, dict[str, str]]] = {  # the other libraries' rules as arguments of ours
    "cutmix": {"timm's rule": {"box": "timm", "partner": "flip"}, "torchvision's rule": {"partner": "roll"}},
    "mixup": {},
}
ERRORS = {"cutmix": cutmix_error, "mixup": mixup_error}
PEERS: dict[Technique, tuple[str, str]] = {
    "cutmix": ("timm.data.Mixup(cutmix_alpha=1)", "torchvision.transforms.v2.CutMix"),
    "mixup": ("timm.data.Mixup(mixup_alpha=1)", "torchvision.transforms.v2.MixUp"),
}


def prepare_mixer(
    technique: Technique, make: Callable[[int], Mixer], x: Tensor, classes: int, note: str = ""
) -> PreparedImplementation:
    """A mixer with its own copy of the images."""
    mix, images = make(classes), x.clone(memory_format=torch.preserve_format)
    labels = torch.randint(classes, (len(x),), generator=stream(0, "bench labels")).to(x.device)

    def error() -> float:
        own_class = torch.arange(len(x), device=x.device)
        checked = make(len(x))
        found = [checked(x.clone(memory_format=torch.preserve_format), own_class) for _ in range(DRAWS)]
        if not any(bool((read_pairing(weights)[0] != own_class).any()) for _, weights in found):
            return float("inf")  # nothing was mixed at all
        return max(ERRORS[technique](x, mixed, weights) for mixed, weights in found)

    return PreparedImplementation(error, lambda: mix(images, labels), note)


def make_case(
    technique: Technique, size: int, batch: int, classes: int, form: torch.memory_format, scope: Scope
) -> Case:
    """One technique at one size and memory format, integer labels in, dense targets out."""
    x = torch.rand(batch, 3, size, size, generator=stream(0, "bench images")).to(scope.device, memory_format=form)
    layout = "channels_last" if form == torch.channels_last else "contiguous"
    own, (timm_name, torchvision_name) = f"paribus.{technique}", PEERS[technique]

    def make_implementation(name: str, package: str, make: Callable[[int], Mixer], note: str = "") -> Implementation:
        kind = "ours" if package == "paribus" else "public"
        return Implementation(name, package, lambda: prepare_mixer(technique, make, x, classes, note), kind)

    peer_variants = [
        make_implementation(
            f"{own}({', '.join(f'{k}={v!r}' for k, v in rule.items())})",
            "paribus",
            _paribus_mixer(technique, **rule),
            peer,
        )
        for peer, rule in RULES[technique].items()
    ]
    implementations = (
        make_implementation(own, "paribus", _paribus_mixer(technique), "partners: a permutation"),
        *peer_variants,
        make_implementation(
            timm_name, "timm", _timm_mixer(technique), "changes its input; partners: the batch reversed"
        ),
        make_implementation(
            torchvision_name, "torchvision", _torchvision_mixer(technique), "partners: the batch rolled by one"
        ),
    )
    words = "no slower than {}"
    return Case(
        technique,
        f"{'CutMix' if technique == 'cutmix' else 'Mixup'}, {size} px, batch {batch}, {layout}",
        work=f"One batch of float32 images with integer labels of {classes} classes.",
        truth=f"pixels against the target weights over {DRAWS} draws, the largest difference",
        tolerance=TOLERANCE,
        implementations=implementations,
        targets=tuple(SpeedTarget(own, peer, 1.0, words.format(peer)) for peer in (timm_name, torchvision_name))
        if technique == "cutmix"
        else (),
        samples=batch,
    )


def cases(technique: Technique, scope: Scope) -> Iterator[Case]:
    sizes = SIZES[:1] if scope.quick or technique == "mixup" else SIZES
    formats = FORMATS[:1] if technique == "mixup" else FORMATS
    for size, batch, classes in sizes:
        for form in formats:
            yield make_case(technique, size, batch, classes, form, scope)

"""Does a network's confidence tell images of its classes from what it was not trained for?

Two scores, larger for more familiar inputs: the maximum softmax probability (Hendrycks & Gimpel, ICLR 2017, arXiv
1610.02136) and the negative free energy, log Σ exp(logits), at temperature 1 (Liu et al., NeurIPS 2020, arXiv
2010.03759). Familiar images are the positives. AUROC is the probability that a familiar image has the larger score,
ties counted half; FPR95 is the share of unfamiliar images that pass the largest threshold which at least 95 % of the
familiar ones pass.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import matches_signature, schema
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import DataFactory, Predicts
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.out_sets import Noise, OutSet, make_noise, open_out_set

SCORES = ("", "_energy")  # after auroc and fpr95: maximum softmax, energy
_HISTOGRAM_BINS = 20
_INSIDE = " in"  # the name of the familiar images' scores; no set has a space in its name


@schema
class OutOfDistribution:
    """ood/auroc_SET and ood/fpr95_SET by the maximum softmax, ood/auroc_energy_SET and ood/fpr95_energy_SET by energy,
    and their means over the sets: ood/auroc, ood/fpr95, ood/auroc_energy, ood/fpr95_energy.

    split: the familiar images. noise: sets of noise, uniform and gaussian. noise_images: in each. sets: further sets by
    name, each the config of a data set, of which the split val is used, in the network's image size and channels.
    held_out_classes: by a set's name, the names of the classes whose images are used, for a network that was trained
    without them. seed: of the noise, not the run's. at: always, or end: after the last step alone. batch_size: samples
    at a time on one rank.
    """

    split: str = "val"
    noise: tuple[Noise, ...] = ("uniform", "gaussian")
    noise_images: Annotated[int, Field(ge=1)] = 2000
    sets: Mapping[str, Annotated[DataFactory, matches_signature(DataFactory)]] = Field(default_factory=dict)
    held_out_classes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0)] = 0
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 512

    def __post_init__(self) -> None:
        for name in self.sets:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or re.match(r"energy(_|$)", name):
                raise ValueError(f"sets: found {name}; a name has letters, digits, and _ . -, and does not say energy")
        if twice := [n for i, n in enumerate(self._names) if n in self._names[:i]]:
            raise ValueError(f"noise and sets: {twice[0]} is there twice")
        if not self._names:
            raise ValueError("noise and sets are empty; evaluators.NAME=null leaves the evaluator out")
        if strange := [name for name in self.held_out_classes if name not in self.sets]:
            raise ValueError(f"held_out_classes: {strange[0]} is not in sets")
        if empty := [name for name, classes in self.held_out_classes.items() if not classes]:
            raise ValueError(f"held_out_classes: {empty[0]} names no class")

    @property
    def needs(self) -> tuple[type, ...]:
        return (Predicts,)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {"split": self.split}

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        ends = ("", *(f"_{name}" for name in self._names))
        return tuple(f"ood/{what}{score}{end}" for what in ("auroc", "fpr95") for score in SCORES for end in ends)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self.noise, *self.sets)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Opens the other data sets, so that what is wrong with them is known before training."""
        for _ in self._open_sets(context):
            pass

    def __call__(self, method: Predicts, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for batch in splits[self.split](self.batch_size):
            sums += gather_samples(_INSIDE, batch.ids, method.predict(batch.inputs).float())
        for name, batches in self._open_sets(context):
            for ids, inputs in batches(self.batch_size):
                sums += gather_samples(name, ids, method.predict(inputs).float())
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        inside = score_logits(sums.gathered(_INSIDE))
        found: dict[str, float] = {}
        outside = {n: s for n in self._names if len(s := score_logits(sums.gathered(n)))}
        for k, score in enumerate(SCORES if len(inside) and outside else ()):
            for what, compare in (("auroc", auroc), ("fpr95", fpr95)):
                each = {name: compare(inside[:, k], scores[:, k]) for name, scores in outside.items()}
                found[f"ood/{what}{score}"] = sum(each.values()) / len(each)
                found |= {f"ood/{what}{score}_{name}": value for name, value in each.items()}
        return found

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """Histograms of the maximum softmax probability."""
        sources = {self.split: _INSIDE, **{name: name for name in self._names}}
        return {
            f"max_softmax_{title}": {"curve": describe_histogram(score_logits(sums.gathered(source))[:, 0])}
            for title, source in sources.items()
        }

    def _open_sets(self, context: EvaluationContext) -> Iterator[tuple[str, OutSet]]:
        for kind in self.noise:
            yield kind, make_noise(kind, self.seed, self.noise_images, context)
        for name, factory in self.sets.items():
            key = (name, context.spec, context.place, context.mean, context.std)
            if key not in self._opened:
                classes = self.held_out_classes.get(name, ())
                self._opened[key] = open_out_set(f"evaluators.ood.sets.{name}", factory, classes, context)
            yield name, self._opened[key]

    @functools.cached_property
    def _opened(self) -> dict[tuple[Any, ...], OutSet]:
        """The other data sets, read once a run and not in each evaluation: by name and all that their inputs depend
        on."""
        return {}


def score_logits(logits: Tensor) -> Tensor:
    """(n, 2) float64: of the maximum softmax probability and of energy.

    The first is not the probability p but 1 − 1/p, of the same order: p itself is 1 for all images of a network that
    is sure enough, so that they would be ties.
    """
    z = logits.double()
    top, which = z.max(1, keepdim=True)
    others = (z - top).exp().scatter(1, which, 0.0).sum(1)
    return torch.stack((-others, z.logsumexp(1)), 1)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The share of pairs in which the inside score is the larger, ties counted half; NaN if a score is NaN. Counted in
    integers."""
    if bool(inside.isnan().any() | outside.isnan().any()):
        return float("nan")
    ranked = outside.sort().values
    twice = sum(int(torch.searchsorted(ranked, inside.contiguous(), right=r).sum()) for r in (False, True))
    return twice / (2 * len(inside) * len(outside))


def fpr95(inside: Tensor, outside: Tensor) -> float:
    """The share of outside scores at or above the largest threshold that at least 95 % of the inside ones reach."""
    if bool(inside.isnan().any() | outside.isnan().any()):
        return float("nan")
    needed = -(-95 * len(inside) // 100)
    threshold = inside.sort(descending=True).values[needed - 1]
    return int((outside >= threshold).sum()) / len(outside)


def describe_histogram(scores: Tensor) -> dict[str, Any]:
    """The share of images in each bin of the maximum softmax probability, at the bins' centres."""
    bins = torch.arange(_HISTOGRAM_BINS, device=scores.device)
    which = (1 / (1 - scores) * _HISTOGRAM_BINS).long().clamp(max=_HISTOGRAM_BINS - 1)
    counts = (which[:, None] == bins).sum(0).tolist()
    return {
        "x": [(k + 0.5) / _HISTOGRAM_BINS for k in range(_HISTOGRAM_BINS)],
        "y": [n / max(1, len(scores)) for n in counts],
        "x_label": "maximum softmax probability",
        "y_label": "share of images",
    }

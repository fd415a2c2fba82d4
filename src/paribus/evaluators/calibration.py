"""How far a network's probabilities can be believed: expected calibration error, likelihood and Brier score, as the
network gives them and after one temperature.

    ECE = Σ_b |B_b|/n · |accuracy(B_b) − confidence(B_b)|     b: bins of the maximum probability, of equal width
    NLL = −1/n Σ log p(true class)      Brier = 1/n Σ_i Σ_k (p_ik − [k is true])², 0 to 2

ECE as in Naeini, Cooper & Hauskrecht (AAAI 2015) and Guo et al. (ICML 2017, arXiv 1706.04599), whose temperature
scaling divides all scores by one T, the T of the least NLL on images held out from training. Accuracy stays the same.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.accuracy import check_splits, rank_targets

TEMPERATURES = (0.01, 100.0)  # the range; its end where all images are right, or no T of the range has the least NLL
_ROWS = 4096  # samples at a time in float64, so that memory stays small
MEASURES = ("ece", "nll", "brier")


def _check_temperature_split(split: str | None) -> str | None:
    if split == "val":
        raise ValueError("val is what is measured; name another split, such as minival, or null")
    return split


@schema
class Calibration:
    """ece, nll and brier on each split, and the same with _scaled after their scores were divided by one temperature.

    splits: val, minival or both. temperature_split: the temperature is fitted on it, and it has no scaled metrics of
    its own; null: none is fitted. bins: of the maximum probability, for ece. at: always, or end: after the last step
    alone. batch_size: samples at a time on one rank.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    temperature_split: Annotated[str | None, AfterValidator(_check_temperature_split)] = "minival"
    bins: Annotated[int, Field(ge=1)] = 15
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def needs(self) -> tuple[type, ...]:
        return (Predicts,)

    @property
    def needed_splits(self) -> dict[str, str]:
        return {} if self.temperature_split is None else {"temperature_split": self.temperature_split}

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        plain = [f"{split}/{name}" for split in self.splits for name in MEASURES]
        scaled = [f"{split}/{name}_scaled" for split in self._scaled_splits() for name in MEASURES]
        return (*plain, *scaled, *(f"{split}/temperature" for split in self._scaled_splits()))

    def __call__(self, method: Predicts, splits: Splits) -> Sums:
        sums = Sums()
        for split in dict.fromkeys((*self.splits, *self.needed_splits.values())):
            for batch in splits[split](self.batch_size):
                sums += gather_samples(f"{split}/logits", batch.ids, method.predict(batch.inputs).float())
                sums += gather_samples(f"{split}/targets", batch.ids, batch.targets)
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        found: dict[str, float] = {}
        for split, suffix, temperature in self._settings(sums):
            samples = score_samples(*_gathered(sums, split), temperature)
            if len(samples):
                found |= {f"{split}/{name}{suffix}": value for name, value in measure(samples, self.bins).items()}
            if suffix:
                found[f"{split}/temperature"] = temperature
        return found

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        return {
            split + suffix: {
                "reliability": describe_bins(score_samples(*_gathered(sums, split), temperature), self.bins)
            }
            for split, suffix, temperature in self._settings(sums)
        }

    def _scaled_splits(self) -> list[str]:
        return [s for s in self.splits if s != self.temperature_split] if self.temperature_split is not None else []

    def _settings(self, sums: Sums) -> Iterator[tuple[str, str, float]]:
        """Split, suffix of its metrics, temperature."""
        yield from ((split, "", 1.0) for split in self.splits)
        if self.temperature_split is not None and (scaled := self._scaled_splits()):
            temperature = fit_temperature(*_gathered(sums, self.temperature_split))
            yield from ((split, "_scaled", temperature) for split in scaled)


def score_samples(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """(n, 4) float64: maximum probability, whether its class is the true one, −log p of the true class, Brier score.

    logits: (n, classes), the network's own: they decide which class is predicted, of equal ones the lower.
    """

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        log_p = (logits.double() / temperature).log_softmax(1)
        p, true = log_p.exp(), targets[:, None]
        brier = p.scatter_add(1, true, -torch.ones_like(true, dtype=p.dtype)).square().sum(1)
        return torch.stack((p.amax(1), rank_targets(logits, targets) < 1, -log_p.gather(1, true)[:, 0], brier), 1)

    return torch.cat([score(*part) for part in zip(logits.split(_ROWS), targets.split(_ROWS), strict=True)])


def measure(samples: Tensor, bins: int) -> dict[str, float]:
    """ece, nll and brier of what `score_samples` gives."""
    _, correct, confidence = _sum_bins(samples, bins)
    ece = (correct - confidence).abs().sum() / len(samples)
    return dict(zip(MEASURES, torch.stack((ece, samples[:, 2].mean(), samples[:, 3].mean())).tolist(), strict=True))


def describe_bins(samples: Tensor, bins: int) -> dict[str, Any]:
    """For a reliability diagram. edges: bins + 1. counts: images of each bin. accuracy, confidence: their means, None
    of an empty bin."""
    counts, correct, confidence = (part.tolist() for part in _sum_bins(samples, bins))
    return {
        "edges": [k / bins for k in range(bins + 1)],
        "counts": [int(n) for n in counts],
        "accuracy": [total / n if n else None for total, n in zip(correct, counts, strict=True)],
        "confidence": [total / n if n else None for total, n in zip(confidence, counts, strict=True)],
    }


def _sum_bins(samples: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """(bins,) float64 each: images, those that are right, the sum of maximum probabilities. Bin b has those greater
    than b / bins and at most (b + 1) / bins."""
    confidence, hits = samples[:, 0], samples[:, 1]
    inner_edges = torch.arange(1, bins, device=samples.device, dtype=torch.float64) / bins
    which = torch.bucketize(confidence.contiguous(), inner_edges)
    # a mask and no index_add: on CUDA that adds in an order of its own at each call
    inside = (which[:, None] == torch.arange(bins, device=samples.device)).double()
    return inside.sum(0), (inside * hits[:, None]).sum(0), (inside * confidence[:, None]).sum(0)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The T of TEMPERATURES for which logits / T have the least mean cross entropy; 1 without samples.

    It is convex in 1/T, so the least is where its slope changes sign, found to 12 digits with a dozen passes over the
    logits in float64. Where it only falls as T falls (all images right) T is the lower end.
    """
    from scipy.optimize import brentq  # takes 0.2 s to import

    def slope(log_t: float) -> float:
        """By 1/T."""
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for some, true in zip(logits.split(_ROWS), targets.split(_ROWS), strict=True):
            z = some.double()
            total += ((z * math.exp(-log_t)).softmax(1) * z).sum() - z.gather(1, true[:, None]).sum()
        return total.item()

    low, high = (math.log(t) for t in TEMPERATURES)
    at_low, at_high = slope(low), slope(high)
    if not len(targets) or math.isnan(at_low + at_high):
        return 1.0 if not len(targets) else math.nan
    if at_low <= 0 or at_high >= 0:
        return TEMPERATURES[0] if at_low <= 0 else TEMPERATURES[1]
    root: Any = brentq(slope, low, high, xtol=1e-12)  # its annotation has further results in it
    return math.exp(root)


def _gathered(sums: Sums, split: str) -> tuple[Tensor, Tensor]:
    return sums.gathered(f"{split}/logits"), sums.gathered(f"{split}/targets")

"""How the numbers of a column are read: which direction is better, and their unit. Both from its name unless given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from paribus.core.errors import ConfigError
from paribus.study.judge.columns import last_word, normalise
from paribus.study.report.wording import Unit, choose_unit
from paribus.study.units import is_accuracy, read_margin

_ACCURACIES = {"top1", "top 1", "top5", "top 5", "top1 acc", "top5 acc"}
_HIGHER = {"score", "reward", "return", "auc", "auroc", "f1", "bleu", "map", "iou", "miou", "precision", "recall"}
_HIGHER |= {"r2", "psnr", "ssim", "throughput", "likelihood", "correct"}
_LOWER = {"loss", "error", "err", "nll", "perplexity", "ppl", "fid", "rmse", "mse", "mae", "wer", "cer", "ece", "brier"}
_LOWER |= {"time", "seconds", "latency", "bpb", "regret"}


@dataclass(frozen=True)
class Metric:
    """in_percent: an accuracy whose numbers are per cent already. why: from what its direction follows. caution: what
    is odd about the numbers, "" if nothing is."""

    name: str
    accuracy: bool
    in_percent: bool
    higher_is_better: bool
    why: str
    caution: str = ""

    def choose_unit(self, sizes: Iterable[float]) -> Unit:
        if self.in_percent:
            return Unit(1.0, "%", "points", 2)
        return choose_unit("acc" if self.accuracy else "", sizes)

    def read_margin(self, text: str | None) -> float | None:
        """--margin in the metric's own unit. Of accuracies a bare number is in points, whatever their numbers are."""
        if text is None:
            return None
        # its numbers say that it is no accuracy, whatever its name
        named = "acc" if self.accuracy else "value" if is_accuracy(self.name) else self.name
        margin = read_margin(text, named, "--margin")
        return float(Decimal(str(margin)) * 100) if self.in_percent else margin


def choose_metric(name: str, values: Iterable[float], higher: bool | None, in_percent: bool = False) -> Metric:
    """name: of the column, or what the user calls it. higher: as given. in_percent: a % stands at the numbers or their
    column; else an accuracy is in per cent where one is above 1. Raises ConfigError where the direction is not given
    and the name does not tell it."""
    word = last_word(name)
    values = list(values)
    known = is_accuracy(word) or normalise(name) in _ACCURACIES
    highest, lowest = max(values, default=0.0), min(values, default=0.0)
    accuracy = known and lowest >= 0 and highest <= 100
    if higher is None and not known and word not in _HIGHER | _LOWER:
        raise ConfigError(f"is more or less of {name} better? Give --higher or --lower")
    up = higher if higher is not None else known or word in _HIGHER
    why = "as given" if higher is not None else "by its name"
    return Metric(name, accuracy, accuracy and (in_percent or highest > 1), up, why, _find_odd(name, known, values))


def _find_odd(name: str, known: bool, values: Sequence[float]) -> str:
    """Numbers of an accuracy that are not all fractions or all per cent."""
    if not known or not values:
        return ""
    if min(values) < 0 or max(values) > 100:
        worst = max(values, key=lambda value: abs(value - 50))
        return f"{name} is {worst:g} in a row, which is no accuracy; the numbers are taken as they are, in no unit."
    fractions = [value for value in values if 0 < value < 1]
    if max(values) > 1 and fractions:
        return (
            f"{name} is {max(values):g} in one row and {min(fractions):g} in another; all are taken for per cent. Are "
            "some of them fractions?"
        )
    return ""

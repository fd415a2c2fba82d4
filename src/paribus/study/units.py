"""Which metrics are accuracies, and how their numbers are read where somebody types them: study.yaml, `--margin`.

Accuracies are recorded as fractions and shown in per cent, so a bare 0.5 may be half a point or fifty. With the unit pt
there is nothing to ask: 0.5pt is half a point, 0.005, wherever it stands. Also 0.5 pt, 0.5pts, 0.5 points, 0.5pp, 0.5%.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from paribus.core.errors import ConfigError

# Of accuracies a bare difference below it is a fraction in study.yaml, one from it on is points for --margin; the
# others are refused.
LARGE = 0.05
_POINT = Decimal("0.01")
# 1e-2 too: YAML 1.1 takes it for text, as it wants 1.0e-2
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TYPED = re.compile(rf"\s*({_NUMBER})\s*(pt|pts|points?|pp|%)?\s*")


def is_accuracy(metric: str) -> bool:
    """acc, acc1 and accuracy, alone or as a word of a longer name (corrupted_acc_fog), on any split."""
    return re.search(r"(^|_)acc(uracy)?\d*(_|$)", metric.rpartition("/")[2]) is not None


def infer_direction(metric: str) -> bool | None:
    """Whether higher is better, by the name: of accuracies it is, of losses it is not; None: the name does not say."""
    if is_accuracy(metric):
        return True
    return False if re.search(r"(^|_)loss(_|$)", metric.rpartition("/")[2]) else None


def choose_direction(metric: str, lower: bool, higher: bool) -> bool:
    """Whether higher is better: --lower-is-better and --higher-is-better, or what the name says. Raises ConfigError."""
    if lower and higher:
        raise ConfigError("--lower-is-better, --higher-is-better: found both; give one of them")
    if lower or higher:
        return higher
    found = infer_direction(metric)
    if found is None:
        raise ConfigError(
            f"--metric: found {metric}; it is no accuracy and no loss, so say which way is better: --lower-is-better "
            "for an error, --higher-is-better for a score"
        )
    return found


@dataclass(frozen=True)
class Typed:
    """A number as somebody typed it. value: without its unit, or in the metric's unit where it stands in points."""

    value: float
    in_points: bool


def read_number(found: Any, metric: str, where: str, fraction: bool | None = None) -> Typed:
    """A number, or text that is one, perhaps in points. fraction: whether the metric is shown in per cent; None: if it
    is an accuracy. Raises ConfigError."""
    in_percent = is_accuracy(metric) if fraction is None else fraction
    if isinstance(found, int | float) and not isinstance(found, bool):
        return Typed(_finite(found, found, where), in_points=False)
    match = _TYPED.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        or_points = ", or in points: 0.5pt" if in_percent else ""
        raise ConfigError(f"{where}: found {found!r}; should be a number, e.g. 0.005 or 5e-3{or_points}")
    if not match[2]:
        return Typed(_finite(float(match[1]), found, where), in_points=False)
    if not in_percent:
        raise ConfigError(f"{where}: found {found!r}; {metric} is not an accuracy; give a number in its own unit")
    return Typed(_finite(float(Decimal(match[1]) * _POINT), found, where), in_points=True)


def read_difference(found: Any, metric: str, where: str, fraction: bool | None = None) -> float:
    """A difference in study.yaml, in the metric's unit. Of accuracies a bare number is a fraction; one of 5 points and
    more is refused, since 0.5 is more often meant as half a point than as fifty. fraction: as for `read_number`."""
    typed = read_number(found, metric, where, fraction)
    if (is_accuracy(metric) if fraction is None else fraction) and not typed.in_points and abs(typed.value) >= LARGE:
        raise ambiguous(found, typed.value, metric, where)
    return typed.value


def read_value(found: Any, metric: str, where: str) -> float:
    """A value of the metric in study.yaml. Of an accuracy a bare number is a fraction, so one above 1 is refused."""
    typed = read_number(found, metric, where)
    if is_accuracy(metric) and typed.value > 1:
        raise ConfigError(
            f"{where}: found {found}; {metric} is a fraction, at most 1; for {typed.value:g} % write "
            f"{typed.value:g}pt or {typed.value / 100:g}"
            if not typed.in_points
            else f"{where}: found {found}; {metric} is at most 100pt"
        )
    return typed.value


def read_margin(text: str, metric: str, where: str) -> float:
    """A margin on the command line, in the metric's unit. Of accuracies a bare number is in points, as in every table;
    one below 0.05 is refused, since 0.005 may well be meant as 0.5pt."""
    typed = read_number(text, metric, where)
    if typed.value < 0:
        raise ConfigError(f"{where}: found {text!r}; should be 0 or more")
    if typed.in_points or not is_accuracy(metric):
        return typed.value
    if 0 < typed.value < LARGE:
        raise ambiguous(text, typed.value, metric, where)
    return float(Decimal(text.strip()) * _POINT)


def ambiguous(found: Any, value: float, metric: str, where: str) -> ConfigError:
    """Both readings of a bare number, and how to say which is meant."""
    first, second = (f"{x:g} point{'' if x == 1 else 's'} ({x:g}pt)" for x in (value, value * 100))
    return ConfigError(f"{where}: found {found} on {metric}; is it {first} or {second}? Give the unit pt")


def _finite(value: float, found: Any, where: str) -> float:
    if not math.isfinite(value):
        raise ConfigError(f"{where}: found {found}; should be a finite number")
    return value

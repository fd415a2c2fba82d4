"""The `tune:` part of a study.yaml: what is searched, with how many trials and seeds, and by which metric.

An axis is one key's range. Values are rounded to three significant digits, so that a choice can be written down.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from paribus.core.build import schema

Value = float | int | bool | str | None
EDGE = 0.05  # share of an axis at either end that counts as its edge
DIGITS = 3


@schema
class Interval:
    """Numbers from low to high: uniform, uniform in the logarithm (both positive), or whole ones, ends included."""

    kind: Literal["uniform", "log_uniform", "integers"]
    low: float | int
    high: float | int


@schema
class ListedValues:
    """One of a list: numbers, true, false, null, or text as it stands behind the = of an override."""

    options: tuple[Value, ...]


Axis = Interval | ListedValues
Space = Mapping[str, Axis]


@schema
class TuneSpec:
    """spaces: arm -> key of the config -> axis. trials: of each arm, beside its default settings. seeds: the tuning's
    own. metric: split/name, not on the split that the study is judged on."""

    spaces: dict[str, dict[str, Axis]]
    trials: Annotated[int, Field(ge=1)]
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...]
    metric: str
    higher_is_better: bool


def pick(axis: Axis, share: float) -> Value:
    """The value at a share of the axis, in [0, 1)."""
    if isinstance(axis, ListedValues):
        return axis.options[min(int(share * len(axis.options)), len(axis.options) - 1)]
    if axis.kind == "integers":
        return int(axis.low) + min(int(share * (axis.high - axis.low + 1)), int(axis.high - axis.low))
    if axis.kind == "log_uniform":
        value = math.exp(math.log(axis.low) + share * math.log(axis.high / axis.low))
    else:
        value = axis.low + share * (axis.high - axis.low)
    return min(max(float(f"{value:.{DIGITS}g}"), float(axis.low)), float(axis.high))  # rounding may leave the range


def count_values(axis: Axis) -> float:
    """How many different values there are; infinite where there are so many that nobody would count them."""
    if isinstance(axis, ListedValues):
        return len(axis.options)
    return axis.high - axis.low + 1 if axis.kind == "integers" else math.inf


def find_edge(axis: Axis, value: object) -> Literal["smallest", "largest", ""]:
    """At which end of its axis a value lies, or beyond which; "" for neither, and where there is no order: options that
    are not all numbers in ascending or descending order, or only two."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(axis, ListedValues):
        numbers = sorted(as_numbers(axis))
        ordered = as_numbers(axis) in (tuple(numbers), tuple(reversed(numbers)))
        if len(numbers) < 3 or not ordered:
            return ""
        return "smallest" if value <= numbers[0] else "largest" if value >= numbers[-1] else ""
    if axis.kind == "integers" and axis.high - axis.low < 2:
        return ""  # two values, as two options
    share = find_share(axis, value)
    return "smallest" if share <= EDGE else "largest" if share >= 1 - EDGE else ""


def find_share(axis: Interval, value: float) -> float:
    """Where a value lies between the ends, on the axis's own scale: 0 at low, 1 at high."""
    if axis.kind == "log_uniform":
        return math.log(value / axis.low) / math.log(axis.high / axis.low) if value > 0 else -math.inf
    return (value - axis.low) / (axis.high - axis.low)


def as_numbers(axis: ListedValues) -> tuple[float, ...]:
    """The options as numbers; () if one of them is none."""
    numbers = [o for o in axis.options if isinstance(o, int | float) and not isinstance(o, bool)]
    return tuple(float(o) for o in numbers) if len(numbers) == len(axis.options) else ()


def format_value(value: object) -> str:
    """As an override takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else value if isinstance(value, str) else repr(value)


def describe_axis(axis: Axis) -> str:
    """In words: 0.0001 to 0.01 (logarithmic)."""
    if isinstance(axis, ListedValues):
        return "one of " + ", ".join(format_value(option) for option in axis.options)
    scale = {"uniform": "", "log_uniform": " (logarithmic)", "integers": " (whole numbers)"}[axis.kind]
    return f"{axis.low:g} to {axis.high:g}{scale}"


def describe_budget(tune: TuneSpec) -> str:
    """The budget and the space in words, for a report's settings."""
    first = next(iter(tune.spaces.values()))
    text = "; ".join(f"{key}: {describe_axis(axis)}" for key, axis in first.items() if _is_shared(key, axis, tune))
    own = [
        f"{arm} {key}: {describe_axis(axis)}"
        for arm, space in tune.spaces.items()
        for key, axis in space.items()
        if not _is_shared(key, axis, tune)
    ]
    seeds = len(tune.seeds)
    trials = f"{tune.trials} {'trial' if tune.trials == 1 else 'trials'}"
    return (
        f"with equal budgets: {trials} × {seeds} {'seed' if seeds == 1 else 'seeds'} for each arm on "
        f"{tune.metric.partition('/')[0]}, beside its default settings; best median {tune.metric}; "
        + "; ".join(part for part in (text, *own) if part)
    )


def _is_shared(key: str, axis: Axis, tune: TuneSpec) -> bool:
    return all(space.get(key) == axis for space in tune.spaces.values())

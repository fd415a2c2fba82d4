"""Which setting is taken: the best median over the seeds; and what an arm's best of fewer trials would have been."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ChosenSetting:
    """trial: its name in the list. value: its median over the tuning seeds."""

    trial: str
    overrides: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class ChosenSettings:
    """arms: arm -> what was chosen for it. digest: of the rows it was chosen by."""

    arms: Mapping[str, ChosenSetting]
    digest: str


def take_median(values: Sequence[float], higher_is_better: bool) -> float:
    """The median over seeds. A value that is not finite is a failed run, and counts as the worst; so the median is
    infinite in the bad direction where half of the runs or more have failed."""
    worst = -math.inf if higher_is_better else math.inf
    return statistics.median(value if math.isfinite(value) else worst for value in values)


def find_best(medians: Mapping[str, float], higher_is_better: bool) -> str | None:
    """The name with the best median, the first of equal ones; None if there is no finite one."""
    finite = {name: value for name, value in medians.items() if math.isfinite(value)}
    if not finite:
        return None
    return (max if higher_is_better else min)(finite, key=lambda name: finite[name])


def expect_best(values: Sequence[float], higher_is_better: bool) -> tuple[float, ...]:
    """The expected best of 1, 2, ... of these values, drawn without replacement: exact, over all subsets of each size.

    The i-th of N in ascending order is the best of n in C(i − 1, n − 1) of C(N, n) subsets: in n / N for the last, and
    for each one before it in (i − n) / (i − 1) times as many as for the i-th.
    """
    sign = 1.0 if higher_is_better else -1.0
    ordered = sorted(sign * value for value in values)
    total = len(ordered)
    found: list[float] = []
    for n in range(1, total + 1):
        share, terms = n / total, list[float]()
        for i in range(total, n - 1, -1):
            terms.append(share * ordered[i - 1])
            share *= (i - n) / (i - 1) if i > 1 else 0.0
        found.append(sign * math.fsum(terms))
    return tuple(found)


def plain_chosen(chosen: ChosenSettings | None) -> dict[str, Any]:
    """Keys for the head of a plan; none where nothing was tuned."""
    if chosen is None:
        return {}
    return {"tuned": {arm: asdict(one) for arm, one in chosen.arms.items()}, "tuning_digest": chosen.digest}


def parse_chosen(head: Mapping[str, Any]) -> ChosenSettings | None:
    """From the head of a plan. Raises KeyError or TypeError for what is none."""
    if "tuned" not in head:
        return None
    arms = {
        arm: ChosenSetting(one["trial"], tuple(one["overrides"]), one["value"]) for arm, one in head["tuned"].items()
    }
    return ChosenSettings(arms, head["tuning_digest"])

"""Learning-rate schedules as pure functions of progress: nothing to step, nothing to save, nothing to restore."""

import math
from typing import Annotated

from pydantic import Field

from paribus.core.build import schema
from paribus.core.duration import Duration, in_steps
from paribus.core.formatting import format_count
from paribus.core.progress import Progress
from paribus.core.protocols import Schedule


def _warmup_factor(at: Progress, warmup: str, start: float) -> tuple[float | None, float]:
    """(factor, 0) while warming up from `start` to 1; after that (None, how much of the rest is done)."""
    steps = in_steps(warmup, at.steps_per_epoch)
    if at.step < steps:
        return start + (1 - start) * (at.step + 1) / steps, 0.0
    return None, (at.step - steps) / max(1, at.total - steps)


def explain_long_warmup(schedule: Schedule, total: int, steps_per_epoch: int) -> str:
    """One line if a run of `total` steps ends before its warm-up does, as a short try of a long recipe; else ""."""
    warmup = getattr(schedule, "warmup", None)
    if not isinstance(warmup, str) or (steps := in_steps(warmup, steps_per_epoch)) <= total:
        return ""
    highest = schedule(Progress(total - 1, total, 0, steps_per_epoch))
    return (
        f"schedule.warmup: {warmup} is {format_count(steps, 'step')} and the run has {total:,}, so the learning rate "
        f"gets no further than {highest:.1%} of optimizer.lr"
    )


@schema
class Cosine:
    """Half a cosine from 1 to `floor` after a linear warm-up from `warmup_start` (both are factors of the rate).

    warmup: length of the linear warm-up. warmup_start: factor of the learning rate at its beginning. floor: factor at
    the end of the run.
    """

    warmup: Duration = "0ep"
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, at: Progress) -> float:
        warm, done = _warmup_factor(at, self.warmup, self.warmup_start)
        return warm if warm is not None else self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


@schema
class Linear:
    """A straight line from 1 to `floor` after a linear warm-up.

    warmup: length of the linear warm-up. warmup_start: factor of the learning rate at its beginning. floor: factor at
    the end of the run.
    """

    warmup: Duration = "0ep"
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, at: Progress) -> float:
        warm, done = _warmup_factor(at, self.warmup, self.warmup_start)
        return warm if warm is not None else 1 - (1 - self.floor) * done


@schema
class Step:
    """Times `gamma` at each milestone, a fraction of the whole run (0.5 and 0.75 in the CutMix paper on CIFAR).

    milestones: fractions of the whole run. gamma: what the learning rate is multiplied by at each. warmup: length of
    the linear warm-up. warmup_start: factor of the learning rate at its beginning.
    """

    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup: Duration = "0ep"
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, at: Progress) -> float:
        warm, _ = _warmup_factor(at, self.warmup, self.warmup_start)
        passed = sum(at.step >= round(m * at.total) for m in self.milestones)
        return warm if warm is not None else self.gamma**passed


@schema
class Constant:
    """1 after a linear warm-up.

    warmup: length of the linear warm-up. warmup_start: factor of the learning rate at its beginning.
    """

    warmup: Duration = "0ep"
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __call__(self, at: Progress) -> float:
        warm, _ = _warmup_factor(at, self.warmup, self.warmup_start)
        return 1.0 if warm is None else warm


@schema
class CosineByEpoch:
    """Half a cosine over the whole run, one rate for each epoch, of which a linear warm-up covers the beginning: timm's
    CosineLRScheduler without warmup_prefix, as timm's and DeiT's scripts step it.

    So the warm-up ends below 1, where the cosine has got to by then. warmup: length of the linear warm-up.
    warmup_start: factor of the learning rate at its beginning. floor: factor at the end of the run. late: every epoch
    trains at the rate meant for the one before it, and the first rate is used twice; DeiT's script does so, timm's does
    not.
    """

    warmup: Duration = "0ep"
    warmup_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    late: bool = False

    def __call__(self, at: Progress) -> float:
        begun = max(0, at.epoch - self.late) * at.steps_per_epoch
        warmup = in_steps(self.warmup, at.steps_per_epoch)
        if begun < warmup:
            return self.warmup_start + (1 - self.warmup_start) * begun / warmup
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * begun / at.total)) / 2

"""Lengths of time in configs: "90ep" (epochs) or "500ba" (batches, that is optimizer steps)."""

import re
from typing import Annotated

from pydantic import BeforeValidator


def _check_duration(duration: object) -> str:
    if not isinstance(duration, str) or not re.fullmatch(r"[0-9]+(ep|ba)", duration):
        raise ValueError("should be a number of epochs or of steps, such as 90ep or 500ba")
    return duration


def _check_positive(duration: object) -> str:
    checked_duration = _check_duration(duration)
    if int(checked_duration[:-2]) == 0:
        raise ValueError("should be at least 1ep or 1ba")
    return checked_duration


Duration = Annotated[str, BeforeValidator(_check_duration)]
PositiveDuration = Annotated[str, BeforeValidator(_check_positive)]


def in_steps(duration: str, steps_per_epoch: int) -> int:
    """The number of optimizer steps in a duration.

    >>> in_steps("3ep", steps_per_epoch=10), in_steps("500ba", steps_per_epoch=10)
    (30, 500)
    """
    count, unit = int(duration[:-2]), duration[-2:]
    return count * steps_per_epoch if unit == "ep" else count

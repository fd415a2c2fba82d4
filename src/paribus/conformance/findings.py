"""What a check of the battery is, and what it raises."""

from collections.abc import Callable
from pathlib import Path

from paribus.conformance.trainings import Trial


class CheckFailed(AssertionError):
    """The technique does not hold what is checked: in one line, what was found and what to do."""


class NotApplicable(Exception):
    """There is nothing to check, and why."""


Check = Callable[[Trial, Path], str]


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)

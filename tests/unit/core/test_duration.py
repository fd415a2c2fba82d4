"""Durations in steps."""

from paribus.core.duration import in_steps


def test_durations() -> None:
    assert in_steps("3ep", 10) == 30
    assert in_steps("500ba", 10) == 500

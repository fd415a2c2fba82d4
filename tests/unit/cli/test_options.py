"""Types of values on the command line."""

import argparse

import pytest

from paribus.cli.options import time_span


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("150m", 9000), ("2h", 7200), ("1h30m", 5400), ("1h0m5s", 3605), ("0h1s", 1)]
)
def test_times(text: str, seconds: float) -> None:
    assert time_span(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "0s", "h", "1.5h", "-1h", "30m1h", "1h 30m", "1H", "1d", "٣s", "9" * 10 + "s"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="should be a time such as 90s, 150m, 2h or 1h30m"):
        time_span(text)

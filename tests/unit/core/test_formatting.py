"""Numbers as text: the examples of the docstrings, and what they leave out."""

import doctest
import math

import pytest

from paribus.core import duration, formatting
from paribus.core.formatting import DASH, format_duration, format_list, format_number, format_quantity, format_si


@pytest.mark.parametrize("module", [formatting, duration], ids=lambda module: module.__name__)
def test_the_examples_hold(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted > 0
    assert found.failed == 0


def test_no_number_is_a_dash() -> None:
    assert {format_number(math.nan, 2), format_quantity(math.inf), format_si(math.nan)} == {DASH}


def test_signs_and_zeros() -> None:
    assert format_number(-0.5, 1) == "\N{MINUS SIGN}0.5"
    assert format_number(-0.001, 2, sign=True) == "0.00"
    assert [format_quantity(x) for x in (12.34, 0.0412, 1494.0, 0.0)] == ["12.3", "0.0412", "1,494", "0"]


def test_units_change_where_three_digits_end() -> None:
    assert [format_si(x) for x in (5, 999, 1000, 999_499, 999_500, -2.5e9)] == [
        *("5", "999", "1.00 k", "999 k", "1.00 M", "-2.50 G"),
    ]
    assert [format_duration(x) for x in (1.5, 0.0015, 1.5e-6, 1.5e-9)] == ["1.5 s", "1.5 ms", "1.5 µs", "1.5 ns"]


def test_a_long_list_is_cut() -> None:
    assert format_list("abc") == "a, b, c"
    assert format_list("abcdefgh", 6) == "a, b, c, d, e, f and 2 more"

"""Number formatting for the whole package: counts, costs, times, sizes. Pure functions to text."""

import math
from collections.abc import Iterable

DASH = "–"
MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"


def format_count(n: int, word: str, plural: str = "") -> str:
    """
    >>> format_count(1, "process", "processes"), format_count(1200, "step")
    ('1 process', '1,200 steps')
    """
    return f"{n:,} {word if n == 1 else plural or word + 's'}"


def format_number(x: float, digits: int, sign: bool = False) -> str:
    """With a real minus sign; a dash where there is no number; never a negative zero."""
    if not math.isfinite(x):
        return DASH
    text = f"{x:+.{digits}f}" if sign else f"{x:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def format_quantity(x: float, digits: int = 3) -> str:
    """A cost in its own unit, to so many digits: 12.3, 0.0412, 1,494."""
    if not math.isfinite(x):
        return DASH
    places = max(0, digits - 1 - math.floor(math.log10(abs(x)))) if x else 0
    return f"{x:,.{places}f}"


def format_si(x: float) -> str:
    """Three digits with k, M, G, T; a whole number below a thousand as it is.

    >>> format_si(987), format_si(9880192), format_si(4519698176), format_si(999_600)
    ('987', '9.88 M', '4.52 G', '1.00 M')
    """
    if not math.isfinite(x):
        return DASH
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= 0.9995 * factor:
            scaled = math.copysign(max(abs(x) / factor, 1.0), x)  # 999,600 is 1.00 M
            return f"{format_quantity(scaled)} {letter}"
    return str(int(x)) if x == int(x) else format_quantity(x)


def format_list(items: Iterable[str], most: int = 6) -> str:
    """a, b, c and 4 more"""
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def format_seconds(value: float) -> str:
    """
    >>> format_seconds(8.14), format_seconds(754.6)
    ('8.1 s', '12:35')
    """
    return f"{value:.1f} s" if value < 60 else format_clock(value)


def format_clock(seconds: float) -> str:
    """
    >>> format_clock(7), format_clock(754.6), format_clock(93784)
    ('0:07', '12:35', '26:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}" if seconds / factor < 1000 else f"{seconds / factor:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def format_bytes(n: int) -> str:
    """
    >>> format_bytes(2_340_000_000), format_bytes(12_000)
    ('2.3 GB', '12 kB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n >= scale:
            return f"{n / scale:.1f} {unit}"
    return f"{n / 1e3:.0f} kB"

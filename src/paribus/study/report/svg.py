"""Pieces of an SVG picture as text, for pictures of intervals that are written without matplotlib."""

import math
from html import escape


def draw_text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def draw_line(x1: float, x2: float, y1: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{colour}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def draw_rectangle(left: float, right: float, top: float, height: float, colour: str) -> str:
    return f'<rect x="{left}" y="{top:g}" width="{right - left:.1f}" height="{height}" fill="{colour}"/>'


def list_ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the ends."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

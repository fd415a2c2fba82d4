"""Pieces of an SVG picture as text, for pictures that are written without matplotlib, whose bytes differ by version."""

import math
from collections.abc import Iterable, Sequence
from html import escape

# of a file that follows the reader's light or dark scheme; ARM_STYLE adds the first two colours of a report's arms
STYLE = """\
<style>
:root { --ink: #1b2026; --faint: #5f6873; --grid: #d9dde2; --margin: #e8ebef;
  --better: #0a6b50; --worse: #a63c00; --same: #1b2026; --open: #5f6873; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --faint: #a7b0bb; --grid: #39414a; --margin: #262c33;
    --better: #5ccfa9; --worse: #f5a06a; --same: #e6e9ed; --open: #a7b0bb; }
}
</style>"""
ARM_STYLE = """\
<style>
:root { --base: #5b6470; --arm: #0b6fb3; }
@media (prefers-color-scheme: dark) { :root { --base: #a7b0bb; --arm: #5cb1ee; } }
</style>"""


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


def draw_bold(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return draw_text(x, y, text, anchor, colour).replace("<text ", '<text font-weight="600" ', 1)


def draw_dot(x: float, y: float, colour: str, radius: float = 3) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>'


def draw_curve(xs: Sequence[float], ys: Sequence[float], colour: str, width: float, dashes: str = "") -> str:
    """dashes: lengths of dash and gap in turn; "" for none."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{_join(xs, ys)}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linejoin="round" stroke-linecap="round"{dashed}/>'
    )


def draw_band(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str) -> str:
    """The area between two curves."""
    outline = _join([*xs, *reversed(xs)], [*highs, *reversed(lows)])
    return f'<polygon points="{outline}" fill="{colour}" fill-opacity="0.16"/>'


def _join(xs: Iterable[float], ys: Iterable[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def build_svg(width: float, height: float, size: float, title: str, parts: Sequence[str], styles: str = STYLE) -> str:
    """A file. size: of its letters. title: what it shows, in words."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="system-ui, sans-serif" font-size="{size:g}">\n'
        f"<title>{escape(title)}</title>\n{styles}\n" + "\n".join(parts) + "\n</svg>\n"
    )

"""Boxes, arrows and code for the drawn pictures, beside what paribus.study.report.svg has."""

from html import escape

from paribus.study.report.svg import draw_text

MONO = "ui-monospace, Menlo, Consolas, monospace"
INK, FAINT, GRID, MARGIN = "var(--ink)", "var(--faint)", "var(--grid)", "var(--margin)"
BASE, ARM = "var(--base)", "var(--arm)"


def draw_box(left: float, top: float, width: float, height: float, fill: str = "none", stroke: str = GRID) -> str:
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.2"/>'
    )


def draw_arrow(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT) -> str:
    """Along one axis, with its head at the second end."""
    across = x1 != x2
    back = 6 if (x2 > x1 or y2 > y1) else -6
    head = f"M{x2 - back},{y2 - 4} L{x2},{y2} L{x2 - back},{y2 + 4}"
    if not across:
        head = f"M{x2 - 4},{y2 - back} L{x2},{y2} L{x2 + 4},{y2 - back}"
    return (
        f'<path d="M{x1},{y1} L{x2},{y2} {head}" fill="none" stroke="{colour}" stroke-width="1.8" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def draw_code(x: float, y: float, text: str, colour: str = INK, size: float = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-family="{MONO}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def draw_lines(x: float, y: float, lines: tuple[str, ...], colour: str = INK, anchor: str = "start") -> list[str]:
    """Text, line under line."""
    return [draw_text(x, round(y + 18 * i, 1), line, anchor, colour) for i, line in enumerate(lines)]

"""The intervals of a verdict as SVG in the colours of a report's page, written without matplotlib."""

import math
from collections.abc import Callable
from html import escape

from paribus.core.formatting import MINUS
from paribus.study.judge.judged import Judged
from paribus.study.judge.plot import IntervalLine, find_range, list_lines, shorten

_WIDTH, _NAMES, _VERDICTS, _ROW = 760, 190, 220, 30


def draw_svg(judged: Judged) -> str:
    """A row for each comparison: name, interval, verdict. Shaded: the margin."""
    lines, unit = list_lines(judged), judged.unit
    margin = judged.rule.margin * unit.scale
    low, high = find_range(lines, margin)
    inner, bottom = _WIDTH - _NAMES - _VERDICTS, _ROW * len(lines)

    def x(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * inner, 1)

    parts = [_rectangle(x(-margin), x(margin), bottom)] if margin else []
    for tick in list_ticks(low, high):
        parts.append(_line(x(tick), x(tick), 0, bottom, "var(--grid)" if tick else "var(--faint)", 0.8))
        parts.append(_text(x(tick), bottom + 16, f"{tick:g}".replace("-", MINUS), "middle", "var(--faint)"))
    better = "better →" if judged.rule.higher_is_better else "← better"
    of = f", {unit.differences}" if unit.differences else ""
    axis = f"difference to {shorten(judged.baseline, 24)}{of} ({better})"
    parts.append(_text(_NAMES + inner / 2, bottom + 34, axis, "middle", "var(--faint)"))
    for i, line in enumerate(lines):
        parts += _draw_line(line, _ROW * i + _ROW / 2, x)
    title = escape("; ".join(f"{line.name} {line.mean:+.3g}, {line.verdict}" for line in lines), quote=True)
    return (
        f'<svg role="img" aria-label="{title}" style="--width: {_WIDTH}px; font: 11px var(--sans)" '
        f'viewBox="0 0 {_WIDTH} {bottom + 40}">\n' + "\n".join(parts) + "\n</svg>"
    )


def _draw_line(line: IntervalLine, y: float, x: Callable[[float], float]) -> list[str]:
    colour = f"var(--{line.kind})"
    parts = [
        _text(_NAMES - 12, y + 4, shorten(line.name, 28), "end", "var(--ink)"),
        _text(_WIDTH - _VERDICTS + 12, y + 4, shorten(line.verdict, 40), "start", colour),
    ]
    if math.isfinite(line.low):
        parts.append(_line(x(line.low), x(line.high), y, y, colour, 2.2))
    if math.isfinite(line.mean):
        parts.append(f'<circle cx="{x(line.mean)}" cy="{y}" r="3.6" fill="{colour}"/>')
    return parts


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{colour}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def _rectangle(left: float, right: float, height: float) -> str:
    return f'<rect x="{left}" y="0" width="{right - left:.1f}" height="{height}" fill="var(--margin)"/>'


def list_ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the ends."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

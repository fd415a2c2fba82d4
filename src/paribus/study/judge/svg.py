"""The intervals of a verdict as SVG in the colours of a report's page, written without matplotlib."""

import math
from collections.abc import Callable
from html import escape

from paribus.core.formatting import MINUS
from paribus.study.judge.judged import Judged
from paribus.study.judge.plot import IntervalLine, find_range, list_lines, shorten
from paribus.study.report.svg import draw_line, draw_rectangle, draw_text, list_ticks

_WIDTH, _NAMES, _VERDICTS, _ROW = 760, 190, 220, 30


def draw_svg(judged: Judged) -> str:
    """A row for each comparison: name, interval, verdict. Shaded: the margin."""
    lines, unit = list_lines(judged), judged.unit
    margin = judged.rule.margin * unit.scale
    low, high = find_range(lines, margin)
    inner, bottom = _WIDTH - _NAMES - _VERDICTS, _ROW * len(lines)

    def x(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * inner, 1)

    parts = [draw_rectangle(x(-margin), x(margin), 0, bottom, "var(--margin)")] if margin else []
    for tick in list_ticks(low, high):
        parts.append(draw_line(x(tick), x(tick), 0, bottom, "var(--grid)" if tick else "var(--faint)", 0.8))
        parts.append(draw_text(x(tick), bottom + 16, f"{tick:g}".replace("-", MINUS), "middle", "var(--faint)"))
    better = "better →" if judged.rule.higher_is_better else "← better"
    of = f", {unit.differences}" if unit.differences else ""
    axis = f"difference to {shorten(judged.baseline, 24)}{of} ({better})"
    parts.append(draw_text(_NAMES + inner / 2, bottom + 34, axis, "middle", "var(--faint)"))
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
        draw_text(_NAMES - 12, y + 4, shorten(line.name, 28), "end", "var(--ink)"),
        draw_text(_WIDTH - _VERDICTS + 12, y + 4, shorten(line.verdict, 40), "start", colour),
    ]
    if math.isfinite(line.low):
        parts.append(draw_line(x(line.low), x(line.high), y, y, colour, 2.2))
    if math.isfinite(line.mean):
        parts.append(f'<circle cx="{x(line.mean)}" cy="{y}" r="3.6" fill="{colour}"/>')
    return parts

"""A forest plot as text of an SVG file: a row for each difference, with its interval and its verdict.

For README files, beside the figures of a report's page: the same rows give the same bytes with any matplotlib.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paribus.core.formatting import MINUS
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.svg import draw_dot, draw_line, draw_rectangle, draw_text, list_ticks
from paribus.study.report.wording import VERDICT_KINDS, Unit
from paribus.study.stats import Comparison

WIDTH, ROW = 1000, 28
_NAMES, _VERDICTS, _TOP, _BELOW = 410, 190, 6, 46


@dataclass(frozen=True)
class ForestRow:
    """Numbers as they are shown, so accuracies in points; NaN for ends that there are none of. margin: the smallest
    effect of interest. kind: of the verdict, which gives its colour. published: the paper's difference."""

    name: str
    mean: float
    low: float
    high: float
    margin: float
    verdict: str
    kind: str
    published: float | None = None


def find_reach(a: Analysis) -> float:
    """How far from 0 intervals are drawn: an early look spends so little that its own would leave no room for anything
    else. Infinite where no looks were planned."""
    means = [abs(x.comparison.estimate.mean) for x in a.comparisons if x.comparison.estimate.n]
    return math.inf if a.interims is None else 3 * max([a.spec.margin, *means])


def make_forest_row(
    name: str, c: Comparison, unit: Unit, margin: float, published: float | None = None, reach: float = math.inf
) -> ForestRow:
    """All in the metric's own unit. reach: see find_reach."""
    e, scale = c.estimate, unit.scale
    low, high = max(e.low, -reach) * scale, min(e.high, reach) * scale
    paper = None if published is None else published * scale
    verdict = c.judgement.verdict
    return ForestRow(name, e.mean * scale, low, high, margin * scale, verdict.value, VERDICT_KINDS[verdict], paper)


def draw_forest(rows: Sequence[ForestRow], label: str) -> tuple[float, list[str]]:
    """Its height and its parts, from the top left. label: below the axis. A cross is a paper's difference."""
    values = [v for r in rows for v in (r.mean, r.low, r.high, r.published or 0.0, r.margin, -r.margin)]
    ends = [0.0, *filter(math.isfinite, values)]
    room = (max(ends) - min(ends) or 1.0) * 0.04
    low, high = min(ends) - room, max(ends) + room
    inner, bottom = WIDTH - _NAMES - _VERDICTS, _TOP + ROW * len(rows)

    def x(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * inner, 1)

    parts = [
        draw_rectangle(x(-row.margin), x(row.margin), _TOP + ROW * i, ROW, "var(--margin)")
        for i, row in enumerate(rows)
    ]
    for tick in list_ticks(low, high):
        parts.append(draw_line(x(tick), x(tick), _TOP, bottom, "var(--grid)" if tick else "var(--faint)", 0.8))
        parts.append(draw_text(x(tick), bottom + 16, format_tick(tick), "middle", "var(--faint)"))
    parts.append(draw_text(WIDTH / 2, bottom + 36, label, "middle", "var(--faint)"))
    for i, row in enumerate(rows):
        y = _TOP + ROW * i + ROW / 2
        parts.append(draw_text(_NAMES - 12, y + 4, _cut(row.name, 62), "end", "var(--ink)"))
        parts.append(draw_text(WIDTH - _VERDICTS + 12, y + 4, _cut(row.verdict, 30), "start", f"var(--{row.kind})"))
        if math.isfinite(row.low):
            parts.append(draw_line(x(row.low), x(row.high), y, y, f"var(--{row.kind})", 2.4))
        if math.isfinite(row.mean):
            parts.append(draw_dot(x(row.mean), y, f"var(--{row.kind})", 3.8))
        if row.published is not None:
            parts += _draw_cross(x(row.published), y)
    return bottom + _BELOW, parts


def _draw_cross(at: float, y: float) -> list[str]:
    left, right = round(at - 4, 1), round(at + 4, 1)
    return [draw_line(left, right, y + up, y - up, "var(--ink)", 1.4) for up in (-4, 4)]


def format_tick(value: float) -> str:
    return f"{value:+g}".replace("-", MINUS) if value else "0"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip(' ,')}…"

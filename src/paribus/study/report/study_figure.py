"""The figure of a study's README, differences.svg: a forest plot, and a curve of what stands along something.

Made from the recorded rows only, by the writer of svg.py.
"""

import math
from collections.abc import Callable, Sequence

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.figures.along import AlongLine, list_differences
from paribus.study.report.figures.style import spread_apart
from paribus.study.report.forest import WIDTH, draw_forest, find_reach, format_tick, make_forest_row
from paribus.study.report.svg import (
    ARM_STYLE,
    STYLE,
    build_svg,
    draw_bold,
    draw_curve,
    draw_dot,
    draw_line,
    draw_rectangle,
    draw_text,
    list_ticks,
)

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 410, 190, 34, 44, 280  # of the curve, below the forest plot
_SIDE = 9  # points between the intervals of two lines at one place
_COLOURS = ("var(--arm)", "var(--base)")
_DASHES = ("", "5 4", "1 4", "")  # with the colours four lines that differ


def draw_study_figure(a: Analysis) -> str:
    """An SVG file that follows the reader's light or dark scheme; "" where no comparison has a run of both arms."""
    compared = [x.comparison for x in a.comparisons if x.comparison.estimate.n]
    if not compared:
        return ""
    unit = choose_report_unit(a)
    reach = find_reach(a)
    names = [a.spec.words.get((c.arm, c.baseline)) or a.spec.label_comparison(c.arm, c.baseline) for c in compared]
    rows = [make_forest_row(*of, unit, a.spec.margin, reach=reach) for of in zip(names, compared, strict=True)]
    better = "better →" if a.spec.higher_is_better else "← better"
    label = f"difference in {a.spec.metric}{f', {unit.differences}' if unit.differences else ''} ({better})"
    height, parts = draw_forest(rows, label)
    if lines := list_differences(a) if a.spec.along is not None else []:
        parts += [f'<g transform="translate(0 {height:g})">', *_draw_curves(a, lines, unit.scale, reach), "</g>"]
        height += _HEIGHT
    told = "; ".join(
        f"{row.name} {unit.difference(c.estimate.mean)}: {row.verdict}" for c, row in zip(compared, rows, strict=True)
    )
    return build_svg(WIDTH, height, 12, told, parts, f"{STYLE}\n{ARM_STYLE}")


def _draw_curves(a: Analysis, lines: Sequence[AlongLine], scale: float, reach: float) -> list[str]:
    """Each difference with its interval where it stands; what joins them is for the eye."""
    assert a.spec.along is not None
    places = sorted({p.x for line in lines for p in line.points})
    x = _place(places, a.spec.along.scale)
    margin = a.spec.margin * scale
    values = [v for line in lines for p in line.points for v in (p.mean, max(p.low, -reach), min(p.high, reach))]
    ends = [0.0, margin, -margin, *(v * scale for v in values if math.isfinite(v))]
    room = (max(ends) - min(ends)) * 0.05
    low, high = min(ends) - room, max(ends) + room

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (min(max(value, low), high) - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    right = WIDTH - _RIGHT
    parts = [draw_bold(_LEFT, 18, f"the same along {a.spec.along.name}", "start", "var(--ink)")]
    parts += [draw_rectangle(_LEFT, right, y(margin), round(y(-margin) - y(margin), 1), "var(--margin)")]
    for tick in list_ticks(low, high):
        at = round(y(tick), 1)
        parts.append(draw_line(_LEFT, right, at, at, "var(--grid)" if tick else "var(--faint)", 0.8))
        parts.append(draw_text(_LEFT - 8, round(at + 4, 1), format_tick(tick), "end", "var(--faint)"))
    for place in places:
        parts.append(draw_text(x(place), _HEIGHT - _BOTTOM + 18, f"{place:,.6g}", "middle", "var(--faint)"))
    parts.append(draw_text((_LEFT + right) / 2, _HEIGHT - 8, a.spec.along.name, "middle", "var(--faint)"))
    for i, line in enumerate(lines):
        parts += _draw_line(line, scale, lambda v, i=i: x(v) + (i - (len(lines) - 1) / 2) * _SIDE, y, i)
    names = spread_apart([y(line.points[-1].mean * scale) for line in lines], 16)
    for i, (line, at) in enumerate(zip(lines, names, strict=True)):
        parts.append(draw_bold(right + 12, round(at + 4, 1), line.name, "start", _COLOURS[i % 2]))
    return parts


def _draw_line(
    line: AlongLine, scale: float, x: Callable[[float], float], y: Callable[[float], float], index: int
) -> list[str]:
    colour = _COLOURS[index % 2]
    xs, ys = [x(p.x) for p in line.points], [y(p.mean * scale) for p in line.points]
    parts = [draw_curve(xs, ys, colour, 1.4, _DASHES[index % 4])]
    for at, p in zip(xs, line.points, strict=True):
        if math.isfinite(p.low):
            across = round(at, 1)
            parts.append(
                draw_line(across, across, round(y(p.low * scale), 1), round(y(p.high * scale), 1), colour, 2.4)
            )
    return parts + [draw_dot(at, mean, colour, 3.8) for at, mean in zip(xs, ys, strict=True)]


def _place(places: Sequence[float], scale: str) -> Callable[[float], float]:
    """From a value along to where it stands, a little inside the axis."""
    to = {"log": math.log, "even": lambda v: float(places.index(v))}.get(scale, float)
    first, last = to(places[0]), to(places[-1])
    inside = WIDTH - _RIGHT - _LEFT - 60
    return lambda v: round(_LEFT + 30 + (to(v) - first) / ((last - first) or 1.0) * inside, 1)

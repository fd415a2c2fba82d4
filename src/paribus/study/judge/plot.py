"""The intervals of a verdict, drawn with characters: matplotlib takes longer to import than a verdict to make."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paribus.core.formatting import MINUS
from paribus.study.judge.judged import Judged
from paribus.study.report.wording import VERDICT_KINDS, Unit

WIDTH, LEAST = 100, 24  # columns of the whole at most, and of its middle at least
_NAME = 24


@dataclass(frozen=True)
class IntervalLine:
    """One interval, in the unit that is shown; NaN where there is none. kind: of its verdict."""

    name: str
    mean: float
    low: float
    high: float
    verdict: str
    kind: str


@dataclass(frozen=True)
class _Marks:
    left: str = "├"
    dash: str = "─"
    right: str = "┤"
    point: str = "●"
    zero: str = "│"
    crossing: str = "┼"
    edge: str = "┊"
    cut: str = "…"


_ASCII = _Marks("|", "-", "|", "o", "|", "+", ":", "~")


def list_lines(judged: Judged) -> list[IntervalLine]:
    scale, counted = judged.unit.scale, judged.counted
    return [
        IntervalLine(
            c.arm,
            c.estimate.mean * scale,
            c.estimate.low * scale,
            c.estimate.high * scale,
            c.judgement.describe(counted.one, counted.many),
            VERDICT_KINDS[c.judgement.verdict],
        )
        for c in judged.comparisons
    ]


def find_range(lines: Sequence[IntervalLine], margin: float) -> tuple[float, float]:
    """Where the axis begins and ends: all intervals, 0 and the margin."""
    ends = [0.0, margin, -margin, *(v for x in lines for v in (x.mean, x.low, x.high) if math.isfinite(v))]
    low, high = min(ends), max(ends)
    room = (high - low or 1.0) * 0.04
    return low - room, high + room


def draw_text(judged: Judged, width: int = WIDTH, ascii_only: bool = False) -> str:
    """A line for each comparison: name, interval, verdict; below them the axis. A solid bar is 0, dotted ones are the
    margin."""
    lines, unit, marks = list_lines(judged), judged.unit, _ASCII if ascii_only else _Marks()
    margin = judged.rule.margin * unit.scale
    names = min(_NAME, max(len(line.name) for line in lines))
    middle = max(LEAST, min(width, WIDTH) - names - max(len(line.verdict) for line in lines) - 6)
    low, high = find_range(lines, margin)

    def place(value: float) -> int:
        return min(middle - 1, max(0, round((value - low) / (high - low) * (middle - 1))))

    background = [" "] * middle
    for value, mark in ((margin, marks.edge), (-margin, marks.edge), (0.0, marks.zero)):
        background[place(value)] = mark
    drawn = [
        f"  {shorten(line.name, names, marks.cut):<{names}}  "
        f"{''.join(_draw_row(line, list(background), place, marks))}  {line.verdict}"
        for line in lines
    ]
    return "\n".join([*drawn, f"  {'':<{names}}  {_write_axis(low, high, middle, place(0.0), unit)}"])


def _draw_row(line: IntervalLine, row: list[str], place: Callable[[float], int], marks: _Marks) -> list[str]:
    if math.isfinite(line.low):
        start, end = place(line.low), place(line.high)
        row[start : end + 1] = [marks.crossing if cell == marks.zero else marks.dash for cell in row[start : end + 1]]
        row[start], row[end] = marks.left, marks.right
    if math.isfinite(line.mean):
        row[place(line.mean)] = marks.point
    return row


def _write_axis(low: float, high: float, width: int, zero: int, unit: Unit) -> str:
    """Both ends and, where there is room, 0; then the unit."""
    digits = max(0, 1 - math.floor(math.log10(high - low)))
    left, right = (f"{value:.{digits}f}".replace("-", MINUS) for value in (low, high))
    axis = list(f"{left}{right:>{width - len(left)}}")
    if len(left) < zero < width - len(right) - 1:
        axis[zero] = "0"
    return f"{''.join(axis)}  {unit.differences}".rstrip()


def shorten(name: str, most: int, cut: str = "…") -> str:
    """Its beginning and its end are kept."""
    return name if len(name) <= most else f"{name[: most // 2]}{cut}{name[len(name) - (most - most // 2 - 1) :]}"

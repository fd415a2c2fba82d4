"""Figures of estimates with intervals: differences (the forest plot), factorial effects, the paper's and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.style import (
    FAINT,
    GRID,
    INK,
    LINE,
    MARGIN,
    PANEL,
    PAPER,
    VERDICTS,
    Plot,
    build_style,
    fit_name,
    shorten,
    show_grid_lines,
    text_width,
    wrap_text,
)
from paribus.study.report.forest import find_reach
from paribus.study.report.wording import VERDICT_KINDS, Unit
from paribus.study.stats import Judgement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ForestLine:
    """One row of a plot of intervals; NaN where there is none. colour: of its verdict, or of the arm where there is
    none. cross: a second value beside the estimate."""

    name: str
    mean: float
    low: float
    high: float
    verdict: str
    colour: str
    cross: float = math.nan


def plot_differences(a: Analysis, unit: Unit) -> list[Plot]:
    reach = find_reach(a)
    lines = [
        ForestLine(
            a.spec.label_comparison(c.arm, c.baseline),
            e.mean,
            max(e.low, -reach),
            min(e.high, reach),
            str(c.judgement),
            verdict_colour(c.judgement),
        )
        for c in (x.comparison for x in a.comparisons)
        for e in (c.estimate,)
    ]
    better = "better →" if a.spec.higher_is_better else "← better"
    to = f" to {shorten(a.spec.baseline)}" if a.spec.baseline else ""
    label = f"difference{to} in {a.spec.metric}{f', {unit.differences}' if unit.differences else ''} ({better})"
    return [
        Plot(
            "forest",
            f"Differences with 95 % intervals: {describe_lines(lines, unit)}",
            draw_intervals(lines, unit, a.spec.margin, label, wide),
            fits,
        )
        for fits, wide in (("wide", True), ("narrow", False))
    ]


def verdict_colour(judgement: Judgement) -> str:
    return VERDICTS[VERDICT_KINDS[judgement.verdict]]


def describe_lines(lines: Sequence[ForestLine], unit: Unit) -> str:
    return "; ".join(f"{line.name} {unit.difference(line.mean)}, {line.verdict}" for line in lines)


def plot_effects(a: Analysis, unit: Unit) -> list[Plot]:
    lines = [
        ForestLine(" × ".join(x.factors), e.mean, e.low, e.high, str(x.judgement), verdict_colour(x.judgement))
        for x in a.effects
        for e in (x.estimate,)
    ]
    label = f"effect on {a.spec.metric}{f', {unit.differences}' if unit.differences else ''}"
    return [
        Plot(
            "effects",
            f"Effects with 95 % intervals: {describe_lines(lines, unit)}",
            draw_intervals(lines, unit, a.spec.margin, label, wide),
            fits,
        )
        for fits, wide in (("wide", True), ("narrow", False))
        if lines
    ]


def plot_paper(a: Analysis, unit: Unit) -> list[Plot]:
    style = build_style(a)
    lines = [
        ForestLine(
            f"{published.arm} – {published.against}",
            e.mean,
            e.low,
            e.high,
            "",
            style.colour(published.arm),
            published.difference,
        )
        for published, ours in a.reported
        if ours
        for e in (ours.estimate,)
    ]
    label = f"difference{f', {unit.differences}' if unit.differences else ''}; cross: the paper's"
    return [
        Plot(
            "paper",
            f"Ours, with 95 % intervals: {describe_lines(lines, unit)}",
            draw_intervals(lines, unit, 0.0, label, wide),
            fits,
        )
        for fits, wide in (("wide", True), ("narrow", False))
        if lines
    ]


def draw_intervals(
    lines: Sequence[ForestLine], unit: Unit, margin: float, label: str, wide: bool, ticks: int | None = None
) -> Figure:
    """Estimates with their intervals, one below the other. Names stand left of them, or above for want of room.
    ticks: how many intervals between them there may be; None leaves that to matplotlib."""
    width, row = (760, 30) if wide else (PANEL, 50)
    names = 20 + max(text_width(fit_name(line.name, 240)) for line in lines) if wide else 8
    verdicts = 20 + max(text_width(line.verdict) for line in lines) if wide else 8
    inner = width - names - verdicts
    label = wrap_text(label, inner)
    below = 40 + LINE * label.count("\n")
    height = below + 6 + row * len(lines)
    figure = drawing.new_figure(width, height)
    axes = figure.add_axes((names / width, below / height, inner / width, (height - below - 6) / height))
    ends = [0.0, margin, -margin, *(v for x in lines for v in (x.mean, x.low, x.high, x.cross) if math.isfinite(v))]
    low, high = min(ends) * unit.scale, max(ends) * unit.scale
    room = (high - low or 1.0) * 0.06
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    show_grid_lines(axes, "x")
    if ticks:
        axes.locator_params("x", nbins=ticks)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    # where the words stand in the plot, the band and its lines stop short of them
    at = 0.0 if wide else 0.2
    rows = [(-0.5, len(lines) - 0.5)] if wide else [(i, i + 0.4) for i in range(len(lines))]
    _draw_background(axes, rows, margin * unit.scale)
    for i, line in enumerate(lines):
        if math.isfinite(line.mean):
            _draw_estimate(axes, line, i + at, unit)
        if wide:
            _draw_text(axes, fit_name(line.name, 240), (0, i), (-12, 0), "right", "center", INK)
            _draw_text(axes, line.verdict, (1, i), (12, 0), "left", "center", line.colour)
        else:
            room = inner - text_width(line.verdict) - 12
            _draw_text(axes, fit_name(line.name, room), (0, i - 0.22), (0, 0), "left", "center", INK)
            _draw_text(axes, line.verdict, (1, i - 0.22), (0, 0), "right", "center", line.colour)
    return figure


def _draw_background(axes: Axes, rows: Sequence[tuple[float, float]], margin: float) -> None:
    """The band of the margin, the zero line and the grid, in these rows only."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    axes.set_xticks(ticks)
    axes.grid(False)
    for top, bottom in rows:
        if margin:
            axes.fill_betweenx([top, bottom], -margin, margin, color=MARGIN, lw=0, zorder=0)
        axes.vlines(ticks, top, bottom, color=GRID, lw=0.6, zorder=0.5)
        axes.vlines([0], top, bottom, color=FAINT, lw=0.9, zorder=1)


def _draw_estimate(axes: Axes, line: ForestLine, y: float, unit: Unit) -> None:
    if math.isfinite(line.low):
        ends = [line.low * unit.scale, line.high * unit.scale]
        axes.plot(ends, [y, y], color=line.colour, lw=2.2, solid_capstyle="round", zorder=3)
    axes.plot([line.mean * unit.scale], [y], "o", color=line.colour, ms=7, mec=PAPER, mew=1.2, zorder=4)
    if math.isfinite(line.cross):
        axes.plot([line.cross * unit.scale], [y], "x", color=INK, ms=7, mew=1.6, zorder=5)


def _draw_text(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], ha: str, va: str, colour: str
) -> None:
    """Text at a share of the axes' width and a row."""
    axes.annotate(
        text, at, shift, ("axes fraction", "data"), "offset points", ha=ha, va=va, color=colour, annotation_clip=False
    )

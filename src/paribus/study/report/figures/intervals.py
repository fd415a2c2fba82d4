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
    INK,
    MARGIN,
    PANEL,
    PAPER,
    Plot,
    build_style,
    shorten,
    show_grid_lines,
)
from paribus.study.report.wording import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ForestLine:
    """One row of a plot of intervals; NaN where there is none. cross: a second value beside the estimate."""

    name: str
    mean: float
    low: float
    high: float
    verdict: str
    colour: str
    cross: float = math.nan


def plot_differences(a: Analysis, unit: Unit) -> list[Plot]:
    style = build_style(a)
    lines = [
        ForestLine(
            a.spec.label_comparison(c.arm, c.baseline), e.mean, e.low, e.high, str(c.judgement), style.colour(c.arm)
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
            f"Differences with 95 % intervals: {_describe_lines(lines, unit)}",
            _draw_intervals(lines, unit, a.spec.margin, label, wide),
            fits,
        )
        for fits, wide in (("wide", True), ("narrow", False))
    ]


def _describe_lines(lines: Sequence[ForestLine], unit: Unit) -> str:
    return "; ".join(f"{line.name} {unit.difference(line.mean)}, {line.verdict}" for line in lines)


def plot_effects(a: Analysis, unit: Unit) -> list[Plot]:
    lines = [
        ForestLine(" × ".join(x.factors), x.estimate.mean, x.estimate.low, x.estimate.high, str(x.judgement), INK)
        for x in a.effects
    ]
    label = f"effect on {a.spec.metric}{f', {unit.differences}' if unit.differences else ''}"
    return [
        Plot(
            "effects",
            f"Effects with 95 % intervals: {_describe_lines(lines, unit)}",
            _draw_intervals(lines, unit, a.spec.margin, label, wide),
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
            f"Ours, with 95 % intervals: {_describe_lines(lines, unit)}",
            _draw_intervals(lines, unit, 0.0, label, wide),
            fits,
        )
        for fits, wide in (("wide", True), ("narrow", False))
        if lines
    ]


def _draw_intervals(lines: Sequence[ForestLine], unit: Unit, margin: float, label: str, wide: bool) -> Figure:
    """Estimates with their intervals, one below the other. Names stand left of them, or above for want of room."""
    width, row = (760, 30) if wide else (PANEL, 46)
    height = 46 + row * len(lines)
    figure = drawing.new_figure(width, height)
    names = min(210, 14 + 6.2 * max(len(shorten(line.name, 34)) for line in lines)) if wide else 8
    verdicts = 232 if wide and any(line.verdict for line in lines) else 8
    axes = figure.add_axes((names / width, 36 / height, (width - names - verdicts) / width, (height - 42) / height))
    ends = [0.0, margin, -margin, *(v for x in lines for v in (x.mean, x.low, x.high, x.cross) if math.isfinite(v))]
    low, high = min(ends) * unit.scale, max(ends) * unit.scale
    room = (high - low or 1.0) * 0.06
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    show_grid_lines(axes, "x")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if margin:
        axes.axvspan(-margin * unit.scale, margin * unit.scale, color=MARGIN, lw=0, zorder=0)
    axes.axvline(0, color=FAINT, lw=0.9, zorder=1)
    axes.set_xlabel(label)
    at = 0.0 if wide else 0.2
    for i, line in enumerate(lines):
        if math.isfinite(line.mean):
            _draw_estimate(axes, line, i + at, unit)
        if wide:
            _draw_text(axes, shorten(line.name, 34), (0, i), (-12, 0), "right", "center", INK)
            _draw_text(axes, line.verdict, (1, i), (12, 0), "left", "center", FAINT)
        else:
            _draw_text(axes, shorten(line.name, 26), (0, i - 0.22), (0, 0), "left", "center", INK)
            _draw_text(axes, line.verdict, (1, i - 0.22), (0, 0), "right", "center", FAINT)
    return figure


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

"""Small multiples of what a study found beside its metric: a panel of intervals for each secondary metric, and a panel
for each curve and reliability diagram of the evaluators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.beside import SecondaryResult
from paribus.study.analysis.curves import Band
from paribus.study.analysis.details import Panel
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.intervals import ForestLine, describe_lines, draw_intervals, verdict_colour
from paribus.study.report.figures.style import (
    FAINT,
    PANEL,
    TEXT,
    Plot,
    PlotStyle,
    build_style,
    fit_name,
    shorten,
    show_grid_lines,
    spread_apart,
    text_width,
    write_title,
)
from paribus.study.report.sections_beside import choose_secondary_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT, _TOP, _BOTTOM, _LEFT = 250, 30, 42, 52  # points: of a panel, above it, below it, and left of it
_BETTER = {True: " (better →)", False: " (← better)", None: ""}


def plot_secondary(a: Analysis) -> list[Plot]:
    """For each metric, its comparisons one below the other."""
    return [_plot_one(a, one) for one in a.beside.results]


def _plot_one(a: Analysis, one: SecondaryResult) -> Plot:
    unit = choose_secondary_unit(one)
    lines = [
        ForestLine(
            a.spec.label_comparison(c.arm, c.baseline),
            e.mean,
            e.low,
            e.high,
            str(c.judgement),
            verdict_colour(c.judgement),
        )
        for c in one.comparisons
        for e in (c.estimate,)
    ]
    to = f" to {shorten(a.spec.baseline)}" if a.spec.baseline else ""
    units = f", {unit.differences}" if unit.differences else ""
    label = f"{one.asked.metric}: difference{to}{units}{_BETTER[one.asked.higher_is_better]}"
    title = f"{one.asked.metric}, differences with 95 % intervals: {describe_lines(lines, unit)}"
    return Plot(f"also {one.asked.metric}", title, draw_intervals(lines, unit, one.margin, label, wide=False, ticks=5))


def plot_panels(a: Analysis) -> list[Plot]:
    style = build_style(a)
    return [
        Plot(f"panel {panel.key}", f"{panel.title}: {panel.y_label} against {panel.x_label}", draw_panel(panel, style))
        for panel in a.beside.panels
    ]


def draw_panel(panel: Panel, style: PlotStyle) -> Figure:
    figure = drawing.new_figure(PANEL, _HEIGHT)
    arms = {arm: band for arm, band in panel.bands.items() if band.steps}
    names = 6 + max(text_width(shorten(arm, 18), bold=True) for arm in arms)
    inner = PANEL - 8 - names - _LEFT
    axes = figure.add_axes((_LEFT / PANEL, _BOTTOM / _HEIGHT, inner / PANEL, (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT))
    show_grid_lines(axes, "y")
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], color=FAINT, lw=0.9, dashes=(4, 3), zorder=1)
    for arm, band in arms.items():
        _draw_arm(axes, band, style.colour(arm), style.marker(arm))
    low, high = _compute_range(arms)
    axes.set_ylim((0, 1) if panel.diagonal else (low, high))
    if panel.diagonal:
        axes.set_xlim(0, 1)
    axes.set_xlabel(fit_name(panel.x_label, inner))
    _label_arms(axes, arms, style)
    write_title(figure, fit_name(_title(panel), PANEL - 16, bold=True))
    return figure


def _title(panel: Panel) -> str:
    return f"{panel.title} ({panel.y_label})" if panel.y_label else panel.title


def _draw_arm(axes: Axes, band: Band, colour: str, marker: str) -> None:
    if band.n > 1:
        axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.14, lw=0, zorder=2)
    few = marker if len(band.steps) <= 20 else None
    axes.plot(band.steps, band.mean, color=colour, lw=1.7, marker=few, ms=4, zorder=3)


def _compute_range(arms: dict[str, Band]) -> tuple[float, float]:
    shown = [v for band in arms.values() for v in (*band.low, *band.high) if math.isfinite(v)]
    room = (max(shown) - min(shown) or abs(max(shown)) or 1.0) * 0.05
    return min(shown) - room, max(shown) + room


def _label_arms(axes: Axes, arms: dict[str, Band], style: PlotStyle) -> None:
    """Each arm's name right of the panel, at the height of its line's end, moved where two would touch."""
    height = _HEIGHT - _TOP - _BOTTOM
    low, high = axes.get_ylim()
    ends = [(min(max(band.mean[-1], low), high) - low) / (high - low) * height for band in arms.values()]
    moved = spread_apart(ends, 14)
    shift = max(0.0, 4 - min(moved)) - max(0.0, max(moved) - height)
    for arm, end in zip(arms, moved, strict=True):
        axes.annotate(
            shorten(arm, 18),
            (1, (end + shift) / height),
            (6, 0),
            "axes fraction",
            "offset points",
            ha="left",
            va="center",
            color=style.colour(arm),
            weight="bold",
            size=TEXT,
            annotation_clip=False,
        )

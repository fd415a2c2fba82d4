"""Figures of a study's tuning: the metric against each key that was searched, and the best of fewer trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.curves import Band
from paribus.study.analysis.details import Panel
from paribus.study.analysis.tuning import TrialSummary, TunedArm, TuningAnalysis
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.beside import draw_panel
from paribus.study.report.figures.style import (
    FAINT,
    INK,
    PANEL,
    TEXT,
    Plot,
    PlotStyle,
    build_style,
    fit_name,
    shorten,
    show_grid_lines,
    text_width,
    write_title,
)
from paribus.study.report.sections_tuning import ATTEMPTS, axis_figure, choose_tuning_unit
from paribus.study.report.wording import Unit
from paribus.study.tuning.space import Axis, Interval, as_numbers, format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 270, 50, 42, 52, 14  # points: of a figure, and around its axes


def plot_tuning(a: Analysis) -> list[Plot]:
    """One figure for each key, and one of the expected best."""
    if a.tuning is None:
        return []
    unit, style = choose_tuning_unit(a.tuning), build_style(a)
    found = [
        Plot(axis_figure(key), f"{a.tuning.metric} against {key}", _draw_axis(a.tuning, key, axis, unit, style))
        for key, axis in a.tuning.axes.items()
    ]
    return [*found, *_plot_attempts(a.tuning, unit, style)]


def _plot_attempts(tuning: TuningAnalysis, unit: Unit, style: PlotStyle) -> list[Plot]:
    bands: dict[str, Band] = {}
    for name, arm in tuning.arms.items():
        values = tuple(value * unit.scale for value in arm.attempts)
        if len(values) > 1:
            bands[name] = Band(1, tuple(range(1, len(values) + 1)), values, values, values)
    if not bands:
        return []
    panel = Panel(ATTEMPTS, "expected best of n trials", "trials", unit.values, bands)
    title = f"Expected best median {tuning.metric} against the number of trials"
    return [Plot(ATTEMPTS, title, draw_panel(panel, style))]


def _draw_axis(tuning: TuningAnalysis, key: str, axis: Axis, unit: Unit, style: PlotStyle) -> Figure:
    figure = drawing.new_figure(PANEL, _HEIGHT)
    width, height = PANEL - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    axes = figure.add_axes((_LEFT / PANEL, _BOTTOM / _HEIGHT, width / PANEL, height / _HEIGHT))
    show_grid_lines(axes, "y")
    searched = {name: arm for name, arm in tuning.arms.items() if key in arm.space}
    places = _place_values(axis, key, searched)
    for i, (name, arm) in enumerate(searched.items()):
        shift = 0.0 if isinstance(axis, Interval) else 0.24 * (i - (len(searched) - 1) / 2)
        for trial in arm.trials:
            if key in trial.settings and (x := places.get(format_value(trial.settings[key]))) is not None:
                _draw_trial(axes, x + shift, trial, trial.name == arm.chosen.trial, unit, style, name)
    _set_axis(axes, axis, places)
    axes.set_xlabel(fit_name(key, width))
    write_title(figure, f"{tuning.metric}{f' ({unit.values})' if unit.values else ''}")
    _write_names(figure, list(searched), style)
    return figure


def _place_values(axis: Axis, key: str, arms: Mapping[str, TunedArm]) -> dict[str, float]:
    """Value as text -> where it is drawn: numbers of a range at themselves, options one after the other. A default that
    a logarithmic axis cannot show has no place."""
    values = {
        format_value(trial.settings[key]): trial.settings[key]
        for arm in arms.values()
        for trial in arm.trials
        if key in trial.settings
    }
    if isinstance(axis, Interval):
        numbers = {text: float(v) for text, v in values.items() if isinstance(v, int | float)}
        return {text: v for text, v in numbers.items() if v > 0 or axis.kind != "log_uniform"}
    options = [format_value(option) for option in axis.options]
    order = [*options, *(text for text in values if text not in options)]
    numbers = {text: v for text, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if as_numbers(axis) and numbers.keys() == values.keys():
        order.sort(key=float)
    return {text: float(i) for i, text in enumerate(order)}


def _draw_trial(
    axes: Axes, x: float, trial: TrialSummary, is_chosen: bool, unit: Unit, style: PlotStyle, arm: str
) -> None:
    """Small dots for the seeds and the arm's marker for the median; a cross at the bottom where there is none."""
    colour, marker = style.colour(arm), style.marker(arm)
    seeds = [value * unit.scale for value in trial.values if math.isfinite(value)]
    axes.plot([x] * len(seeds), seeds, "o", color=colour, ms=2.5, alpha=0.45, mew=0, zorder=2)
    if not math.isfinite(trial.median):
        axes.plot([x], [0.02], "x", color=colour, ms=6, transform=axes.get_xaxis_transform(), clip_on=False, zorder=4)
        return
    fill = "none" if trial.name == "default" else colour
    y = trial.median * unit.scale
    axes.plot([x], [y], marker, color=colour, mfc=fill, ms=6, mew=1.3, zorder=4)
    if is_chosen:
        axes.plot([x], [y], "o", color=INK, mfc="none", ms=12, mew=1.1, zorder=5)


def _set_axis(axes: Axes, axis: Axis, places: Mapping[str, float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    if not isinstance(axis, Interval):
        axes.set_xticks(list(places.values()), [shorten(text, 10) for text in places])
        axes.set_xlim(-0.6, max(places.values(), default=0.0) + 0.6)
        return
    if axis.kind == "log_uniform":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if axis.high / axis.low < 300 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
    for end in (axis.low, axis.high):  # where the space ends
        axes.axvline(end, color=FAINT, lw=0.8, dashes=(4, 3), zorder=1)


def _write_names(figure: Figure, names: Sequence[str], style: PlotStyle) -> None:
    """The arms in their colours, on one line below the title."""
    left, room = 8.0, (PANEL - 16) / max(1, len(names)) - 12
    for name in names:
        text = fit_name(name, room, bold=True)
        y = 1 - 32 / _HEIGHT
        figure.text(left / PANEL, y, text, color=style.colour(name), weight="bold", size=TEXT, va="center")
        left += text_width(text, bold=True) + 12

"""Curves of arms with bands: the mean over seeds at each evaluation, and how far they scatter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from paribus.study.analysis.curves import Band
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.style import (
    FAINT,
    PANEL,
    TEXT,
    PlotStyle,
    fit_name,
    shorten,
    show_grid_lines,
    spread_apart,
    text_width,
    write_title,
)
from paribus.study.report.wording import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT = 52  # points for the numbers on the vertical axis
MAX_ARMS_PER_PANEL = 4  # arms in one panel of curves; more get a small panel each


def draw_bands(
    arms: Mapping[str, Band],
    reference: str,
    style: PlotStyle,
    unit: Unit,
    title: str,
    logarithmic: bool = False,
    zero: bool = False,
    along: str = "step",
    lines: Sequence[float] = (),
) -> Figure:
    """Means with bands; beyond four arms each in a panel of its own, over the reference. lines: drawn across, at these
    heights."""
    together = len(arms) <= MAX_ARMS_PER_PANEL + (reference == "")
    panels: list[tuple[str, ...]] = [tuple(arms)] if together else [(arm,) for arm in arms if arm != reference]
    columns = 1 if together else 2
    rows = math.ceil(len(panels) / columns)
    height = 250 if together else 40 + 128 * rows
    figure = drawing.new_figure(PANEL, height)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    right = PANEL - 8 - (6 + max(text_width(shorten(arm, 18), bold=True) for arm in arms) if together else 0)
    figure.subplots_adjust(
        left=LEFT / PANEL,
        right=right / PANEL,
        top=1 - (30 if together else 48) / height,
        bottom=36 / height,
        hspace=0.36,
        wspace=0.1,
    )
    low, high = compute_axis_range(arms, unit, logarithmic, zero)
    for axes, names in zip(grid.flat, panels, strict=False):
        if reference in arms and reference not in names:
            _draw_band(axes, arms[reference], style, reference, unit, faint=True)
        for arm in names:
            _draw_band(axes, arms[arm], style, arm, unit, faint=False)
        for height_of_line in (0,) if zero else lines:
            axes.axhline(height_of_line, color=FAINT, lw=0.9, zorder=1)
        if logarithmic:
            axes.set_yscale("log")
            set_plain_ticks(axes, high / low)
        set_step_axis(axes, arms)
        axes.set_ylim(low, high)
        show_grid_lines(axes, "y")
        if together:
            _draw_end_labels(axes, {arm: arms[arm] for arm in names}, style, unit, height - 66, logarithmic)
        else:
            name = fit_name(names[0], (right - LEFT) / columns - 12, bold=True)
            axes.set_title(name, fontsize=TEXT, color=style.colour(names[0]), pad=3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    write_title(figure, title)
    figure.text(right / PANEL, 5 / height, along, ha="right", va="bottom", color=FAINT, size=TEXT)
    return figure


def set_plain_ticks(axes: Axes, span: float) -> None:
    """1, 2, 5, 10 where few powers of ten are shown, else only those; never as 10²."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 60 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def set_step_axis(axes: Axes, arms: Mapping[str, Band]) -> None:
    """Steps are whole numbers. Where all that there is lies at one step, the axis begins at 0, as training did."""
    from matplotlib.ticker import MaxNLocator

    steps = {step for band in arms.values() for step in band.steps}
    if len(steps) == 1:
        axes.set_xlim(0, max(steps) * 1.05 or 1)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 2.5, 5, 10), integer=True))


def compute_axis_range(arms: Mapping[str, Band], unit: Unit, logarithmic: bool, zero: bool) -> tuple[float, float]:
    """All of the means and, except in the first third of training, of the bands: late differences should be visible."""
    shown: list[float] = [0.0] if zero else []
    for band in arms.values():
        late = len(band.steps) // 3
        means = band.mean[late:] if zero else band.mean
        shown += [v * unit.scale for v in (*means, *band.low[late:], *band.high[late:])]
    low, high = min(shown), max(shown)
    if logarithmic:
        return low / 1.15, high * 1.15
    room = (high - low or abs(high) or 1.0) * 0.05
    return low - room, high + room


def _draw_band(axes: Axes, band: Band, style: PlotStyle, arm: str, unit: Unit, faint: bool) -> None:
    colour = style.colour(arm)
    low, mean, high = ([v * unit.scale for v in values] for values in (band.low, band.mean, band.high))
    if not faint and band.n > 1:
        axes.fill_between(band.steps, low, high, color=colour, alpha=0.14, lw=0, zorder=2)
    marker = style.marker(arm) if len(band.steps) == 1 else None
    axes.plot(band.steps, mean, color=colour, lw=1.1 if faint else 1.7, zorder=3, marker=marker)


def _draw_end_labels(
    axes: Axes, arms: Mapping[str, Band], style: PlotStyle, unit: Unit, height: float, logarithmic: bool
) -> None:
    """Each arm's name at the end of its line, moved up or down where two would touch."""
    low, high = axes.get_ylim()
    place: Callable[[float], float] = math.log if logarithmic else float
    ends = [
        (place(min(max(band.mean[-1] * unit.scale, low), high)) - place(low)) / (place(high) - place(low)) * height
        for band in arms.values()
    ]
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

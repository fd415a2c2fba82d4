"""The figures of a report. Each is a pure function of the analysis; direct labels stand in place of legends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.curves import Band
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.intervals import effects, forests, paper
from paribus.study.report.figures.points import costs, target_plot
from paribus.study.report.figures.style import FAINT, PANEL, Plot, Style, apart, bare, short, style_of
from paribus.study.report.wording import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOGETHER = 4  # arms in one panel of curves; more get a small panel each


def plots(analysis: Analysis, unit: Unit) -> tuple[Plot, ...]:
    """All figures that this analysis has something for."""
    with drawing.styled():
        found = [*forests(analysis, unit), *_curves(analysis, unit), *costs(analysis, unit)]
        found += [target_plot(analysis, target, unit) for target in analysis.targets]
        found += [*effects(analysis, unit), *paper(analysis, unit)]
    return tuple(found)


def _curves(a: Analysis, unit: Unit) -> list[Plot]:
    style, found = style_of(a), []
    for key, arms in a.curves.items():
        if not arms:
            continue
        scale = unit if key == a.asked.metric else Unit(1.0, "", "", 3)
        title = f"{key}{f' ({scale.values})' if scale.values else ''}"
        logarithmic = key.endswith(("loss", "weights/step")) and all(v > 0 for band in arms.values() for v in band.low)
        found.append(
            Plot(f"curve {key}", f"{title} over training", _bands(arms, a.reference, style, scale, title, logarithmic))
        )
        for baseline, gaps in a.gaps.items() if key == a.asked.metric else ():
            drawn = {arm: band for arm, band in gaps.items() if band.n}
            if not drawn:
                continue
            title = f"difference to {short(baseline)}{f' ({unit.differences})' if unit.differences else ''}"
            found.append(Plot("gap", f"{title} over training", _bands(drawn, "", style, unit, title, False, zero=True)))
    return found


def _bands(
    arms: Mapping[str, Band],
    reference: str,
    style: Style,
    unit: Unit,
    title: str,
    logarithmic: bool,
    zero: bool = False,
) -> Figure:
    """Means with bands; beyond four arms each in a panel of its own, over the reference."""
    together = len(arms) <= TOGETHER + (reference == "")
    panels: list[tuple[str, ...]] = [tuple(arms)] if together else [(arm,) for arm in arms if arm != reference]
    columns = 1 if together else 2
    rows = math.ceil(len(panels) / columns)
    height = 250 if together else 30 + 118 * rows
    figure = drawing.new(PANEL, height)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    right = PANEL - 8 - (6.0 * max(len(short(arm, 18)) for arm in arms) if together else 0)
    figure.subplots_adjust(
        left=44 / PANEL,
        right=right / PANEL,
        top=1 - (24 if together else 40) / height,
        bottom=30 / height,
        hspace=0.28,
        wspace=0.1,
    )
    low, high = _range(arms, unit, logarithmic, zero)
    for axes, names in zip(grid.flat, panels, strict=False):
        if reference in arms and reference not in names:
            _one_band(axes, arms[reference], style, reference, unit, faint=True)
        for arm in names:
            _one_band(axes, arms[arm], style, arm, unit, faint=False)
        if zero:
            axes.axhline(0, color=FAINT, lw=0.9, zorder=1)
        if logarithmic:
            axes.set_yscale("log")
            _plain_ticks(axes, high / low)
        axes.set_ylim(low, high)
        bare(axes, "y")
        if together:
            _end_labels(axes, {arm: arms[arm] for arm in names}, style, unit, height - 54, logarithmic)
        else:
            axes.set_title(short(names[0], 26), fontsize=8.5, color=style.colour(names[0]), pad=3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.text(8 / PANEL, 1 - 8 / height, title, ha="left", va="top", weight="bold", size=9.5)
    figure.text(right / PANEL, 5 / height, "step", ha="right", va="bottom", color=FAINT, size=8.5)
    return figure


def _plain_ticks(axes: Axes, span: float) -> None:
    """1, 2, 5, 10 where few powers of ten are in sight, else these alone; never as 10²."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 60 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _range(arms: Mapping[str, Band], unit: Unit, logarithmic: bool, zero: bool) -> tuple[float, float]:
    """All of the means and, but for the first third of training, of the bands: what is decided late should be seen."""
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


def _one_band(axes: Axes, band: Band, style: Style, arm: str, unit: Unit, faint: bool) -> None:
    colour = style.colour(arm)
    low, mean, high = ([v * unit.scale for v in values] for values in (band.low, band.mean, band.high))
    if not faint and band.n > 1:
        axes.fill_between(band.steps, low, high, color=colour, alpha=0.14, lw=0, zorder=2)
    marker = style.marker(arm) if len(band.steps) == 1 else None
    axes.plot(band.steps, mean, color=colour, lw=1.1 if faint else 1.7, zorder=3, marker=marker)


def _end_labels(
    axes: Axes, arms: Mapping[str, Band], style: Style, unit: Unit, height: float, logarithmic: bool
) -> None:
    """Each arm's name at the end of its line, moved up or down where two would touch."""
    low, high = axes.get_ylim()
    place: Callable[[float], float] = math.log if logarithmic else float
    ends = [
        (place(min(max(band.mean[-1] * unit.scale, low), high)) - place(low)) / (place(high) - place(low)) * height
        for band in arms.values()
    ]
    moved = apart(ends, 12)
    shift = max(0.0, 4 - min(moved)) - max(0.0, max(moved) - height)
    for arm, end in zip(arms, moved, strict=True):
        axes.annotate(
            short(arm, 18),
            (1, (end + shift) / height),
            (6, 0),
            "axes fraction",
            "offset points",
            ha="left",
            va="center",
            color=style.colour(arm),
            weight="bold",
            size=8.5,
            annotation_clip=False,
        )

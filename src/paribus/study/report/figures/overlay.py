"""Curves of runs over each other, one panel for each metric: the picture of `paribus plot`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paribus.study.analysis.curves import Band
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.bands import compute_axis_range, set_plain_ticks, set_step_axis
from paribus.study.report.figures.style import (
    ARMS,
    FAINT,
    PANEL,
    TEXT,
    TITLE,
    Plot,
    fit_name,
    show_grid_lines,
    text_width,
)
from paribus.study.report.wording import choose_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 250, 52, 18, 30, 36  # points: of a panel, and from its edges to the axes
EDGE, ROW, SAMPLE, GAP = 12, 19, 22, 20  # of the legend: margin, height of a row, length of a line, from entry to entry
DASHES = ("", "7 3", "2 2.5")  # once all colours are taken, in points
Groups = Mapping[str, Mapping[str, Band]]  # label -> metric -> mean and band


@dataclass(frozen=True)
class LineStyle:
    """dashes: "" for a whole line."""

    colour: str
    dashes: str


def choose_line_styles(labels: Sequence[str], baseline: str | None) -> dict[str, LineStyle]:
    """One style for each label: the baseline has the grey that it has in reports."""
    others = [label for label in labels if label != baseline]
    found = {
        label: LineStyle(ARMS[1 + i % (len(ARMS) - 1)], DASHES[i // (len(ARMS) - 1) % len(DASHES)])
        for i, label in enumerate(others)
    }
    return {label: found.get(label, LineStyle(ARMS[0], "")) for label in labels}


def draw_picture(
    groups: Groups, metrics: Sequence[str], styles: Mapping[str, LineStyle], title: str, note: str
) -> Figure:
    """All panels, two in a row, under the title and, where there are several lines, a legend. note: below them."""
    with drawing.style_context():
        columns = min(2, len(metrics))
        rows, width = math.ceil(len(metrics) / columns), columns * PANEL
        entries = _place_legend(list(groups), width) if len(groups) > 1 else []
        head = EDGE + ROW + ROW * (1 + max((row for _, row, _ in entries), default=-1))
        height = head + rows * HEIGHT + (ROW if note else 0)
        figure = drawing.new_figure(width, height)
        figure.text(
            EDGE / width,
            1 - 8 / height,
            fit_name(title, width - 2 * EDGE, bold=True),
            va="top",
            weight="bold",
            size=TITLE,
        )
        for label, row, x in entries:
            y = 1 - (EDGE + ROW * (row + 1.5)) / height
            _draw_sample(figure, styles[label], (x / width, (x + SAMPLE) / width), y)
            shown = fit_name(label, width - 2 * EDGE - SAMPLE - 6)
            figure.text((x + SAMPLE + 6) / width, y, shown, va="center_baseline", size=TEXT)
        for i, metric in enumerate(metrics):
            left, bottom = i % columns * PANEL + LEFT, height - head - (i // columns + 1) * HEIGHT + BOTTOM
            box = (left / width, bottom / height, (PANEL - LEFT - RIGHT) / width, (HEIGHT - TOP - BOTTOM) / height)
            _draw_panel(figure.add_axes(box), groups, metric, styles)
        if note:
            figure.text(EDGE / width, 8 / height, note, va="bottom", color=FAINT, size=TEXT)
    return figure


def draw_panels(groups: Groups, metrics: Sequence[str], styles: Mapping[str, LineStyle]) -> list[Plot]:
    """Each panel as a figure of its own, for a page that has the title and the legend."""
    with drawing.style_context():
        found: list[Plot] = []
        for metric in metrics:
            figure = drawing.new_figure(PANEL, HEIGHT)
            box = (LEFT / PANEL, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / PANEL, 1 - (TOP + BOTTOM) / HEIGHT)
            _draw_panel(figure.add_axes(box), groups, metric, styles)
            found.append(Plot(f"curve {metric}", f"{metric} over training", figure))
    return found


def _place_legend(labels: Sequence[str], width: float) -> list[tuple[str, int, float]]:
    """Label, row and left edge of each entry; a row is filled before the next."""
    placed: list[tuple[str, int, float]] = []
    row, x = 0, float(EDGE)
    for label in labels:
        needed = SAMPLE + 6 + text_width(label)
        if x > EDGE and x + needed > width - EDGE:
            row, x = row + 1, float(EDGE)
        placed.append((label, row, x))
        x += needed + GAP
    return placed


def _draw_sample(figure: Figure, style: LineStyle, ends: tuple[float, float], y: float) -> None:
    from matplotlib.lines import Line2D

    line = Line2D(ends, [y, y], color=style.colour, lw=2.2, ls=_to_pattern(style), transform=figure.transFigure)
    figure.add_artist(line)


def _to_pattern(style: LineStyle) -> str | tuple[float, tuple[float, ...]]:
    return (0, tuple(float(part) for part in style.dashes.split())) if style.dashes else "-"


def _draw_panel(axes: Axes, groups: Groups, metric: str, styles: Mapping[str, LineStyle]) -> None:
    bands = {label: found[metric] for label, found in groups.items() if metric in found}
    unit = choose_unit(metric, [])
    logarithmic = metric.endswith("loss") and all(v > 0 for band in bands.values() for v in (*band.low, *band.mean))
    low, high = compute_axis_range(bands, unit, logarithmic, zero=False)
    for label, band in bands.items():
        style = styles[label]
        scaled = [[v * unit.scale for v in values] for values in (band.low, band.mean, band.high)]
        if band.n > 1:
            axes.fill_between(band.steps, scaled[0], scaled[2], color=style.colour, alpha=0.14, lw=0, zorder=2)
        marker = "o" if len(band.steps) == 1 else None
        axes.plot(band.steps, scaled[1], color=style.colour, lw=1.6, ls=_to_pattern(style), marker=marker, zorder=3)
    if logarithmic:
        axes.set_yscale("log")
        set_plain_ticks(axes, high / low)
    set_step_axis(axes, bands)
    axes.set_ylim(low, high)
    show_grid_lines(axes, "y")
    axes.set_title(f"{metric} ({unit.values})" if unit.values else metric, pad=8)
    axes.set_xlabel("step", loc="right", labelpad=2)

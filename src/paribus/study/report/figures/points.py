"""Figures of runs and arms as points: the metric over what it cost, and when each run reached a target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.costs import TimeToTarget
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.style import (
    FAINT,
    LINE,
    PANEL,
    PAPER,
    TEXT,
    Plot,
    PlotStyle,
    build_style,
    shorten,
    show_grid_lines,
    spread_apart,
    text_width,
    wrap_text,
    write_title,
)
from paribus.study.report.sections_cost import format_target
from paribus.study.report.wording import Unit
from paribus.study.stats import Arrival, find_arrival

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT = 52  # points for the numbers on the vertical axis
_COST_NAMES = {"train_s": "training (s)", "peak_gb": "peak memory (GB)", "macs": "MACs of one image (M)"}


def plot_costs(a: Analysis, unit: Unit) -> list[Plot]:
    """The metric over each cost that differs between arms; where all are equal there is nothing to plot."""
    found = []
    for kind, name in _COST_NAMES.items():
        scale = 1e-6 if kind == "macs" else 1.0
        points = {
            arm: (
                cost[kind].mean * scale,
                cost[kind].sd * scale,
                a.arms[arm].mean * unit.scale,
                a.arms[arm].sd * unit.scale,
            )
            for arm, cost in a.costs.items()
            if cost[kind].n and a.arms[arm].n
        }
        means = [point[0] for point in points.values()]
        if len(points) > 1 and max(means) > 1.02 * min(means):
            title = f"{a.spec.metric}{f' ({unit.values})' if unit.values else ''} over {name}"
            found.append(Plot("cost", title, _draw_scatter(points, build_style(a), title)))
    return found


def _draw_scatter(points: Mapping[str, tuple[float, float, float, float]], style: PlotStyle, title: str) -> Figure:
    height = 250
    figure = drawing.new_figure(PANEL, height)
    right = 18 + max(text_width(shorten(arm, 18), bold=True) for arm in points)
    inner = (height - 62, PANEL - LEFT - right)
    axes = figure.add_axes((LEFT / PANEL, 32 / height, inner[1] / PANEL, inner[0] / height))
    axes.grid(True)
    axes.tick_params(length=0)
    for arm, (x, dx, y, dy) in points.items():
        colour = style.colour(arm)
        for xs, ys in (([x - dx, x + dx], [y, y]), ([x, x], [y - dy, y + dy])):  # nothing is drawn for a NaN
            axes.plot(xs, ys, color=colour, lw=1.1, zorder=3)
        axes.plot([x], [y], style.marker(arm), color=colour, ms=7, mec=PAPER, zorder=4)
    low, high = axes.get_ylim()
    moved = spread_apart([(y - low) / (high - low) * inner[0] for _, _, y, _ in points.values()], 14)
    left, end = axes.get_xlim()
    for (arm, (x, _, y, _)), at in zip(points.items(), moved, strict=True):
        axes.annotate(
            shorten(arm, 18),
            (x, y),
            ((end - x) / (end - left) * inner[1] + 8, at - (y - low) / (high - low) * inner[0]),
            textcoords="offset points",
            va="center",
            color=style.colour(arm),
            weight="bold",
            size=TEXT,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": style.colour(arm), "lw": 0.5, "alpha": 0.45, "shrinkB": 5},
        )
    axes.set_xlim(left, end)
    axes.set_ylim(low, high)
    write_title(figure, title)
    return figure


def plot_target(a: Analysis, target: TimeToTarget, unit: Unit) -> Plot:
    """Steps to the target: dots with the number of runs; hollow, at their end, those that never arrived."""
    style, arms = build_style(a), list(a.spec.arms)
    left = 14 + max(text_width(shorten(arm, 18)) for arm in arms)
    label = wrap_text("step (number of runs; bar: median; hollow: not reached)", PANEL - left - 24)
    below = 40 + LINE * label.count("\n")
    height = below + 30 + 36 * len(arms)
    figure = drawing.new_figure(PANEL, height)
    axes = figure.add_axes((left / PANEL, below / height, (PANEL - left - 24) / PANEL, (height - below - 30) / height))
    show_grid_lines(axes, "x")
    for i, arm in enumerate(arms):
        runs = [row.curves.get(a.spec.metric, []) for row in a.rows if row.arm == arm and row.state == "done"]
        arrivals = [
            find_arrival(
                [p[0] for p in run], [p[1] for p in run], target.value, higher_is_better=a.spec.higher_is_better
            )
            for run in runs
        ]
        _draw_arrivals(axes, arrivals, i, style.colour(arm))
        if math.isfinite(median := target.arms[arm].median):
            axes.plot([median] * 2, [i - 0.1, i + 0.42], color=style.colour(arm), lw=1.4, alpha=0.6, zorder=1)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_yticks(range(len(arms)), [shorten(arm, 18) for arm in arms])
    axes.set_xlabel(label)
    title = f"steps until {a.spec.metric} reaches {format_target(target, unit)}"
    write_title(figure, title)
    return Plot(f"target {target.value}", title, figure)


def _draw_arrivals(axes: Axes, arrivals: Iterable[Arrival], row: int, colour: str) -> None:
    seen = Counter((arrival.time, arrival.reached) for arrival in arrivals if math.isfinite(arrival.time))
    for (time, reached), n in sorted(seen.items()):
        y = row if reached else row + 0.3
        size = 3.5 + 1.6 * math.sqrt(n)  # an area by the number of runs
        axes.plot([time], [y], "o", color=colour, mfc=colour if reached else PAPER, ms=size, clip_on=False, zorder=3)
        if n > 1:
            shift = (0, size / 2)  # above: to its right the next one may be
            axes.annotate(
                str(n), (time, y), shift, textcoords="offset points", ha="center", va="bottom", color=FAINT, size=TEXT
            )

"""The figures of a report. Each is a pure function of the analysis; direct labels stand in place of legends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paribus.study import drawing
from paribus.study.analysis import Analysis, Target
from paribus.study.curves import Band
from paribus.study.drawing import FAINT, INK, MARGIN, PAPER, Style, apart, bare, short
from paribus.study.sections_cost import target_value
from paribus.study.words import Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 400  # points wide: as a phone is
TOGETHER = 4  # arms in one panel of curves; more get a small panel each


@dataclass(frozen=True)
class Plot:
    """key: of the section that shows it. wide: whether it is made for a wide page, narrow: for a phone; else for both."""

    key: str
    title: str
    figure: Figure
    fits: str = ""


def plots(analysis: Analysis, unit: Unit) -> tuple[Plot, ...]:
    """All figures that this analysis has something for."""
    with drawing.styled():
        found = [*_forests(analysis, unit), *_curves(analysis, unit), *_costs(analysis, unit)]
        found += [_target(analysis, target, unit) for target in analysis.targets]
        found += [*_effects(analysis, unit), *_paper(analysis, unit)]
    return tuple(found)


def style_of(a: Analysis) -> Style:
    return Style(tuple(a.asked.arms), a.reference)


@dataclass(frozen=True)
class Line:
    """One row of a plot of intervals; NaN where there is none. cross: a second figure beside the estimate."""

    name: str
    mean: float
    low: float
    high: float
    said: str
    colour: str
    cross: float = math.nan


def _forests(a: Analysis, unit: Unit) -> list[Plot]:
    style = style_of(a)
    lines = [
        Line(f"{c.arm} – {c.baseline}", e.mean, e.low, e.high, str(c.judgement), style.colour(c.arm))
        for c in (x.comparison for x in a.comparisons)
        for e in (c.estimate,)
    ]
    better = "better →" if a.asked.higher_is_better else "← better"
    label = f"difference in {a.asked.metric}{f', {unit.differences}' if unit.differences else ''} ({better})"
    return [
        Plot("forest", f"Differences with 95 % intervals: {_told(lines, unit)}", _intervals(lines, unit, a.asked.margin, label, wide), fits)
        for fits, wide in (("wide", True), ("narrow", False))
    ]


def _told(lines: Sequence[Line], unit: Unit) -> str:
    return "; ".join(f"{line.name} {unit.difference(line.mean)}, {line.said}" for line in lines)


def _effects(a: Analysis, unit: Unit) -> list[Plot]:
    lines = [
        Line(" × ".join(x.factors), x.estimate.mean, x.estimate.low, x.estimate.high, str(x.judgement), INK)
        for x in a.effects
    ]
    label = f"effect on {a.asked.metric}{f', {unit.differences}' if unit.differences else ''}"
    return [
        Plot("effects", f"Effects with 95 % intervals: {_told(lines, unit)}", _intervals(lines, unit, a.asked.margin, label, wide), fits)
        for fits, wide in (("wide", True), ("narrow", False))
        if lines
    ]


def _paper(a: Analysis, unit: Unit) -> list[Plot]:
    style = style_of(a)
    lines = [
        Line(f"{said.arm} – {said.against}", e.mean, e.low, e.high, "", style.colour(said.arm), said.difference)
        for said, ours in a.reported
        if ours
        for e in (ours.estimate,)
    ]
    label = f"difference{f', {unit.differences}' if unit.differences else ''}; cross: the paper's"
    return [
        Plot("paper", f"Ours, with 95 % intervals: {_told(lines, unit)}", _intervals(lines, unit, 0.0, label, wide), fits)
        for fits, wide in (("wide", True), ("narrow", False))
        if lines
    ]


def _intervals(lines: Sequence[Line], unit: Unit, margin: float, label: str, wide: bool) -> Figure:
    """Estimates with their intervals, one below the other. Names stand left of them, or above where there is no room."""
    width, row = (760, 30) if wide else (PANEL, 46)
    height = 46 + row * len(lines)
    figure = drawing.new(width, height)
    names = min(210, 14 + 6.2 * max(len(short(line.name, 34)) for line in lines)) if wide else 8
    verdicts = 232 if wide and any(line.said for line in lines) else 8
    axes = figure.add_axes((names / width, 36 / height, (width - names - verdicts) / width, (height - 42) / height))
    ends = [0.0, margin, -margin, *(v for x in lines for v in (x.mean, x.low, x.high, x.cross) if math.isfinite(v))]
    low, high = min(ends) * unit.scale, max(ends) * unit.scale
    room = (high - low or 1.0) * 0.06
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    bare(axes, "x")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if margin:
        axes.axvspan(-margin * unit.scale, margin * unit.scale, color=MARGIN, lw=0, zorder=0)
    axes.axvline(0, color=FAINT, lw=0.9, zorder=1)
    axes.set_xlabel(label)
    at = 0.0 if wide else 0.2
    for i, line in enumerate(lines):
        if math.isfinite(line.mean):
            _estimate(axes, line, i + at, unit)
        if wide:
            _beside(axes, short(line.name, 34), (0, i), (-12, 0), "right", "center", INK)
            _beside(axes, line.said, (1, i), (12, 0), "left", "center", FAINT)
        else:
            _beside(axes, short(line.name, 26), (0, i - 0.22), (0, 0), "left", "center", INK)
            _beside(axes, line.said, (1, i - 0.22), (0, 0), "right", "center", FAINT)
    return figure


def _estimate(axes: Axes, line: Line, y: float, unit: Unit) -> None:
    if math.isfinite(line.low):
        ends = [line.low * unit.scale, line.high * unit.scale]
        axes.plot(ends, [y, y], color=line.colour, lw=2.2, solid_capstyle="round", zorder=3)
    axes.plot([line.mean * unit.scale], [y], "o", color=line.colour, ms=7, mec=PAPER, mew=1.2, zorder=4)
    if math.isfinite(line.cross):
        axes.plot([line.cross * unit.scale], [y], "x", color=INK, ms=7, mew=1.6, zorder=5)


def _beside(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], ha: str, va: str, colour: str
) -> None:
    """Text at a share of the axes' width and a row."""
    axes.annotate(
        text, at, shift, ("axes fraction", "data"), "offset points", ha=ha, va=va, color=colour, annotation_clip=False
    )


def _curves(a: Analysis, unit: Unit) -> list[Plot]:
    style, found = style_of(a), []
    for key, arms in a.curves.items():
        if not arms:
            continue
        scale = unit if key == a.asked.metric else Unit(1.0, "", "", 3)
        title = f"{key}{f' ({scale.values})' if scale.values else ''}"
        logarithmic = key.endswith("loss") and all(v > 0 for band in arms.values() for v in band.low)
        found.append(Plot(f"curve {key}", f"{title} over training", _bands(arms, a.reference, style, scale, title, logarithmic)))
        drawn = {arm: band for (arm, _), band in a.gaps.items() if band.n} if key == a.asked.metric else {}
        if drawn and len({baseline for _, baseline in a.gaps}) == 1:
            title = f"difference to {short(a.reference)}{f' ({unit.differences})' if unit.differences else ''}"
            found.append(Plot("gap", f"{title} over training", _bands(drawn, "", style, unit, title, False, zero=True)))
    return found


def _bands(
    arms: Mapping[str, Band], reference: str, style: Style, unit: Unit, title: str, logarithmic: bool, zero: bool = False
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
        left=44 / PANEL, right=right / PANEL, top=1 - (24 if together else 40) / height, bottom=34 / height, hspace=0.28, wspace=0.1
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
        axes.set_ylim(low, high)
        bare(axes, "y")
        if together:
            _end_labels(axes, {arm: arms[arm] for arm in names}, style, unit, height - 58, logarithmic)
        else:
            axes.set_title(short(names[0], 26), fontsize=8.5, color=style.colour(names[0]), pad=3)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.text(8 / PANEL, 1 - 8 / height, title, ha="left", va="top", weight="bold", size=9.5)
    figure.text(right / PANEL, 5 / height, "step", ha="right", va="bottom", color=FAINT, size=8.5)
    return figure


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
    for (arm, band), end in zip(arms.items(), moved, strict=True):
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


_COST_NAMES = {"train_s": "training (s)", "peak_gb": "peak memory (GB)", "macs": "MACs of one image (M)"}


def _costs(a: Analysis, unit: Unit) -> list[Plot]:
    """The metric over each cost that differs between arms; where all have the same there is nothing to plot."""
    found = []
    for kind, name in _COST_NAMES.items():
        scale = 1e-6 if kind == "macs" else 1.0
        points = {
            arm: (costs[kind].mean * scale, costs[kind].sd * scale, a.arms[arm].mean * unit.scale, a.arms[arm].sd * unit.scale)
            for arm, costs in a.costs.items()
            if costs[kind].n and a.arms[arm].n
        }
        means = [point[0] for point in points.values()]
        if len(points) > 1 and max(means) > 1.02 * min(means):
            title = f"{a.asked.metric}{f' ({unit.values})' if unit.values else ''} over {name}"
            found.append(Plot("cost", title, _scatter(points, style_of(a), title)))
    return found


def _scatter(points: Mapping[str, tuple[float, float, float, float]], style: Style, title: str) -> Figure:
    height = 250
    figure = drawing.new(PANEL, height)
    right = 18 + 6.0 * max(len(short(arm, 18)) for arm in points)
    inner = (height - 58, PANEL - 44 - right)
    axes = figure.add_axes((44 / PANEL, 30 / height, inner[1] / PANEL, inner[0] / height))
    axes.grid(True)
    axes.tick_params(length=0)
    for arm, (x, dx, y, dy) in points.items():
        spread = {"xerr": None if math.isnan(dx) else dx, "yerr": None if math.isnan(dy) else dy}
        axes.errorbar(x, y, **spread, color=style.colour(arm), fmt=style.marker(arm), ms=7, mec=PAPER, lw=1.1, zorder=3)
    low, high = axes.get_ylim()
    moved = apart([(y - low) / (high - low) * inner[0] for _, _, y, _ in points.values()], 12)
    left, end = axes.get_xlim()
    for (arm, (x, _, y, _)), at in zip(points.items(), moved, strict=True):
        axes.annotate(
            short(arm, 18),
            (x, y),
            ((end - x) / (end - left) * inner[1] + 8, at - (y - low) / (high - low) * inner[0]),
            textcoords="offset points",
            va="center",
            color=style.colour(arm),
            weight="bold",
            size=8.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": style.colour(arm), "lw": 0.5, "alpha": 0.45, "shrinkB": 5},
        )
    axes.set_xlim(left, end)
    axes.set_ylim(low, high)
    figure.text(8 / PANEL, 1 - 8 / height, title, ha="left", va="top", weight="bold", size=9.5)
    return figure


def _target(a: Analysis, target: Target, unit: Unit) -> Plot:
    """Steps to the target: one dot a run that arrived, and the median; a run that never did is a hollow one at its end."""
    from paribus.study.stats import first_reach

    style, arms = style_of(a), list(a.asked.arms)
    height = 52 + 30 * len(arms)
    figure = drawing.new(PANEL, height)
    left = 14 + 6.2 * max(len(short(arm, 18)) for arm in arms)
    axes = figure.add_axes((left / PANEL, 34 / height, (PANEL - left - 10) / PANEL, (height - 62) / height))
    bare(axes, "x")
    for i, arm in enumerate(arms):
        runs = [row.curves.get(a.asked.metric, []) for row in a.rows if row.arm == arm and row.state == "done"]
        arrivals = [
            first_reach([p[0] for p in run], [p[1] for p in run], target.value, higher_is_better=a.asked.higher_is_better)
            for run in runs
        ]
        seen: dict[tuple[float, bool], int] = {}
        for arrival in sorted(arrivals, key=lambda x: (x.time, x.reached)):
            k = seen[arrival.time, arrival.reached] = seen.get((arrival.time, arrival.reached), -1) + 1
            shift = (k + 1) // 2 * (0.09 if k % 2 else -0.09)  # equal times side by side
            fill = style.colour(arm) if arrival.reached else PAPER
            axes.plot([arrival.time], [i + max(-0.42, min(0.42, shift))], "o", color=style.colour(arm), mfc=fill, ms=4.5)
        if math.isfinite(target.arms[arm].median):
            axes.plot([target.arms[arm].median] * 2, [i - 0.4, i + 0.4], color=style.colour(arm), lw=2, alpha=0.5)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_yticks(range(len(arms)), [short(arm, 18) for arm in arms])
    axes.set_xlabel("step (bar: median; hollow: not reached by then)")
    title = f"steps until {a.asked.metric} reaches {target_value(target, unit)}"
    figure.text(8 / PANEL, 1 - 8 / height, title, ha="left", va="top", weight="bold", size=9.5)
    return Plot(f"target {target.value}", title, figure)

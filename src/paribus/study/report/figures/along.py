"""The difference that a technique makes along something: the length of training, the number of images, a weight decay.

A second figure has the losses on unmixed training images beside it, which say how far each arm had learnt by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.style import (
    ARMS,
    FAINT,
    LINE,
    MARGIN,
    MARKERS,
    PANEL,
    PAPER,
    TEXT,
    Plot,
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

_HEIGHT, _TOP, _BOTTOM, _LEFT = 250, 30, 40, 52  # points: of a figure, above its axes, below them, and left of them
_DODGE = 0.012  # between the intervals of two lines at one place, as a share of the axis


@dataclass(frozen=True)
class AlongPoint:
    """A value and its interval; NaN for ends that there are none of. x: where along."""

    x: float
    mean: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class AlongLine:
    """points: in the order of x. quiet: drawn thin and dashed, as what others are compared with."""

    name: str
    points: tuple[AlongPoint, ...]
    colour: str
    marker: str
    quiet: bool = False


def plot_along(a: Analysis, unit: Unit) -> list[Plot]:
    """Nothing where the study names nothing that its comparisons are drawn along."""
    if a.spec.along is None:
        return []
    name, scale = a.spec.along.name, a.spec.along.scale
    found: list[Plot] = []
    if differences := list_differences(a):
        better = "better ↑" if a.spec.higher_is_better else "better ↓"
        title = f"difference in {a.spec.metric}{f', {unit.differences}' if unit.differences else ''} ({better})"
        figure = _draw(differences, unit, title, name, scale, a.spec.margin * unit.scale, zero=True)
        found.append(Plot("along", _describe(differences, unit, title, name), figure))
    if losses := list_losses(a):
        plain = Unit(1.0, "", "", 3)
        title = "loss on unmixed training images"
        found.append(Plot("along losses", f"{title} along {name}", _draw(losses, plain, title, name, scale)))
    return found


def list_differences(a: Analysis) -> list[AlongLine]:
    """The comparisons that say where they stand and have runs, by line."""
    points: dict[str, list[AlongPoint]] = {}
    for c in (compared.comparison for compared in a.comparisons):
        if (place := a.spec.places.get((c.arm, c.baseline))) is not None and c.estimate.n:
            e = c.estimate
            points.setdefault(place[0], []).append(AlongPoint(place[1], e.mean, e.low, e.high))
    return _as_lines(points)


def list_losses(a: Analysis) -> list[AlongLine]:
    """The same places: the mean loss of each arm, and of what it is compared with."""
    of_arms: dict[str, list[AlongPoint]] = {}
    others: dict[str, dict[float, str]] = {}  # line -> place -> what its arm there is compared with
    for (arm, other), (line, x) in a.spec.places.items():
        if a.losses[arm].n and a.losses[other].n:
            of_arms.setdefault(line or "with", []).append(AlongPoint(x, a.losses[arm].mean))
            others.setdefault(line, {})[x] = other
    shared = _share_places(others)
    quiet = [
        AlongLine(
            "without" if len(shared) == 1 else f"without {line}",
            tuple(AlongPoint(x, a.losses[places[x]].mean) for x in sorted(places)),
            ARMS[0],
            MARKERS[0],
            quiet=True,
        )
        for line, places in shared.items()
    ]
    return _as_lines(of_arms) + quiet


def _share_places(others: Mapping[str, Mapping[float, str]]) -> dict[str, dict[float, str]]:
    """Lines that are compared with the same arms wherever they meet have one in common, under the first one's name."""
    found: dict[str, dict[float, str]] = {}
    for line, places in others.items():
        for known in found.values():
            meet = known.keys() & places.keys()
            if meet and all(known[x] == places[x] for x in meet):
                known |= places
                break
        else:
            found[line] = dict(places)
    return found


def _as_lines(points: Mapping[str, list[AlongPoint]]) -> list[AlongLine]:
    return [
        AlongLine(
            name,
            tuple(sorted(ends, key=lambda point: point.x)),
            ARMS[1 + i % (len(ARMS) - 1)],
            MARKERS[1 + i % (len(MARKERS) - 1)],
        )
        for i, (name, ends) in enumerate(points.items())
    ]


def _describe(lines: Sequence[AlongLine], unit: Unit, title: str, name: str) -> str:
    """For who does not see the figure."""
    told = "; ".join(
        ", ".join([line.name, *(f"{unit.difference(p.mean)} at {p.x:g}" for p in line.points)]).removeprefix(", ")
        for line in lines
    )
    return f"{title} along {name}: {told}"


def _draw(
    lines: Sequence[AlongLine],
    unit: Unit,
    title: str,
    name: str,
    scale: str,
    margin: float = 0.0,
    zero: bool = False,
) -> Figure:
    figure = drawing.new_figure(PANEL, _HEIGHT)
    names = max(text_width(shorten(line.name, 18), bold=True) for line in lines)
    inner = PANEL - _LEFT - 14 - (6 + names if names else 0)
    axes = figure.add_axes((_LEFT / PANEL, _BOTTOM / _HEIGHT, inner / PANEL, (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT))
    places = sorted({p.x for line in lines for p in line.points})
    if scale == "even":
        at = {x: float(i) for i, x in enumerate(places)}
        lines = [replace(line, points=tuple(replace(p, x=at[p.x]) for p in line.points)) for line in lines]
        _set_places(axes, sorted(at.values()), False, places)
    else:
        _set_places(axes, places, scale == "log", places)
    _set_range(axes, lines, unit, margin, zero)
    if zero:
        if margin:
            axes.axhspan(-margin, margin, color=MARGIN, lw=0, zorder=0)
        axes.axhline(0, color=FAINT, lw=0.9, zorder=1)
    for i, line in enumerate(lines):
        _draw_line(axes, line, unit, (i - (len(lines) - 1) / 2) * _DODGE if zero else 0.0)
    _label_ends(axes, lines, unit)
    show_grid_lines(axes, "y")
    write_title(figure, title)
    figure.text((_LEFT + inner) / PANEL, 5 / _HEIGHT, name, ha="right", va="bottom", color=FAINT, size=TEXT)
    return figure


def _set_places(axes: Axes, places: Sequence[float], log: bool, values: Sequence[float]) -> None:
    """A tick at each place with its value, without those that would touch the one before."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    scale = math.log if log else float
    at = [scale(x) for x in places]
    room = 0.06 * (at[-1] - at[0] or 1.0)
    inverse = math.exp if log else float
    if log:
        axes.set_xscale("log")
    axes.set_xlim(inverse(at[0] - room), inverse(at[-1] + room))
    shown: list[int] = []
    for i in range(len(at)):
        if not shown or (at[i] - at[shown[-1]]) / (at[-1] - at[0] + 2 * room) > 0.1:
            shown.append(i)
    axes.xaxis.set_major_locator(FixedLocator([places[i] for i in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FixedFormatter([f"{values[i]:,.6g}" for i in shown]))


def _set_range(axes: Axes, lines: Sequence[AlongLine], unit: Unit, margin: float, zero: bool) -> None:
    ends = [v * unit.scale for line in lines for p in line.points for v in (p.mean, p.low, p.high) if math.isfinite(v)]
    ends += [0.0, margin, -margin] if zero else []
    room = (max(ends) - min(ends) or 1.0) * 0.06
    axes.set_ylim(min(ends) - room, max(ends) + room)


def _draw_line(axes: Axes, line: AlongLine, unit: Unit, shift: float) -> None:
    """shift: to the right, as a share of the axis, so that the intervals of two lines do not cover each other."""
    to_axis = (axes.transData + axes.transAxes.inverted()).transform
    from_axis = (axes.transAxes + axes.transData.inverted()).transform
    xs = [from_axis((to_axis((p.x, 0))[0] + shift, 0))[0] for p in line.points]
    means = [p.mean * unit.scale for p in line.points]
    for x, p in zip(xs, line.points, strict=True):
        if math.isfinite(p.low):
            ends = [p.low * unit.scale, p.high * unit.scale]
            axes.plot([x, x], ends, color=line.colour, lw=2.0, solid_capstyle="round", zorder=3)
    width, style = (1.2, "--") if line.quiet else (1.5, "-")
    axes.plot(xs, means, style, color=line.colour, lw=width, zorder=3.5)
    axes.plot(xs, means, line.marker, color=line.colour, ms=6.5, mec=PAPER, mew=1.0, zorder=4)


def _label_ends(axes: Axes, lines: Sequence[AlongLine], unit: Unit) -> None:
    """Each line's name at its end, moved up or down where two would touch."""
    low, high = axes.get_ylim()
    height = _HEIGHT - _TOP - _BOTTOM
    ends = [(line.points[-1].mean * unit.scale - low) / (high - low) * height for line in lines]
    for line, end in zip(lines, spread_apart(ends, LINE), strict=True):
        axes.annotate(
            shorten(line.name, 18),
            (1, min(max(end, 4), height) / height),
            (6, 0),
            "axes fraction",
            "offset points",
            ha="left",
            va="center",
            color=line.colour,
            weight="bold",
            size=TEXT,
            annotation_clip=False,
        )

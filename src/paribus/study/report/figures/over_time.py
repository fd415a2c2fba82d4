"""The metric over seconds of training, where a study asks how soon a value is reached: an arm that learns more in a
step may still be later, since its steps take longer."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.curves import Band
from paribus.study.report.figures.bands import draw_bands
from paribus.study.report.figures.style import Plot, build_style
from paribus.study.report.wording import Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_over_seconds(a: Analysis, unit: Unit) -> list[Plot]:
    """Nothing where the study has no targets, or seconds that do not compare."""
    arms = {} if a.step_seconds is None or not a.spec.targets else place_in_seconds(a)
    if not arms:
        return []
    title = f"{a.spec.metric}{f' ({unit.values})' if unit.values else ''}"
    figure = _draw(a, arms, unit, title)
    return [Plot("over seconds", f"{title} over seconds of training", figure)]


def place_in_seconds(a: Analysis) -> dict[str, Band]:
    """The curves, mean and sd over runs at each step, with a step where the arm's median run was by then."""
    found: dict[str, Band] = {}
    for arm, band in a.curves.get(a.spec.metric, {}).items():
        pace = median((a.step_seconds or {})[arm].values())
        found[arm] = replace(band, steps=tuple(step * pace for step in band.steps))
    return found


def _draw(a: Analysis, arms: dict[str, Band], unit: Unit, title: str) -> Figure:
    lines = tuple(value * unit.scale for value in a.spec.targets)
    return draw_bands(arms, a.reference, build_style(a), unit, title, along="seconds of training", lines=lines)

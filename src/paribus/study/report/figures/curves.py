"""The figures of a report. Each is a pure function of the analysis; direct labels replace legends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paribus.study.analysis.analysis import Analysis
from paribus.study.report.figures import style as drawing
from paribus.study.report.figures.along import plot_along
from paribus.study.report.figures.bands import draw_bands
from paribus.study.report.figures.beside import plot_panels, plot_secondary
from paribus.study.report.figures.intervals import plot_differences, plot_effects, plot_paper
from paribus.study.report.figures.over_time import plot_over_seconds
from paribus.study.report.figures.points import plot_costs, plot_target
from paribus.study.report.figures.style import (
    Plot,
    build_style,
    shorten,
)
from paribus.study.report.figures.tuning import plot_tuning
from paribus.study.report.wording import Unit

if TYPE_CHECKING:
    pass


def build_plots(analysis: Analysis, unit: Unit) -> tuple[Plot, ...]:
    """All figures that this analysis has data for."""
    with drawing.style_context():
        found = [*plot_differences(analysis, unit), *plot_along(analysis, unit)]
        found += [*_plot_curves(analysis, unit), *plot_costs(analysis, unit)]
        found += [plot_target(analysis, target, unit) for target in analysis.targets]
        found += plot_over_seconds(analysis, unit)
        found += [*plot_effects(analysis, unit), *plot_paper(analysis, unit)]
        found += [*plot_secondary(analysis), *plot_panels(analysis), *plot_tuning(analysis)]
    return tuple(found)


def _plot_curves(a: Analysis, unit: Unit) -> list[Plot]:
    style, found = build_style(a), []
    for key, arms in a.curves.items():
        if not arms:
            continue
        scale = unit if key == a.spec.metric else Unit(1.0, "", "", 3)
        title = f"{key}{f' ({scale.values})' if scale.values else ''}"
        logarithmic = key.endswith(("loss", "weights/step")) and all(v > 0 for band in arms.values() for v in band.low)
        found.append(
            Plot(
                f"curve {key}",
                f"{title} over training",
                draw_bands(arms, a.reference, style, scale, title, logarithmic),
            )
        )
        for baseline, gaps in a.gaps.items() if key == a.spec.metric else ():
            drawn = {arm: band for arm, band in gaps.items() if band.n}
            if not drawn:
                continue
            title = f"difference to {shorten(baseline)}{f' ({unit.differences})' if unit.differences else ''}"
            found.append(
                Plot("gap", f"{title} over training", draw_bands(drawn, "", style, unit, title, False, zero=True))
            )
    return found

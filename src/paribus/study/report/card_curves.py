"""The picture of a technique's card: what its studies recorded, each arm beside its baseline.

A panel for each comparison of one technique, of each study the first few: its report has all. Where runs were evaluated
while they trained, the metric over steps. Most studies read their test images once, after the last step: then each
seed's two values, joined, and the loss of training over steps where rows have it. Made from the recorded rows only, by
the writer of svg.py, so that the same rows give the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from textwrap import wrap

from paribus.core.formatting import MINUS
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.curves import Band
from paribus.study.analysis.question import ArmPair
from paribus.study.report.build import choose_report_unit
from paribus.study.report.figures.style import shorten, spread_apart
from paribus.study.report.results_table import find_changed_techniques
from paribus.study.report.svg import (
    ARM_STYLE,
    STYLE,
    build_svg,
    draw_band,
    draw_bold,
    draw_curve,
    draw_dot,
    draw_line,
    draw_text,
    list_ticks,
)
from paribus.study.report.wording import Unit

TRAIN_LOSS = "train/loss"
_WIDTH, _PANEL, _HEIGHT, _TEXT = 760, 380, 278, 13  # legible where a page shows it 600 pixels wide
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 104, 66, 34  # of a panel, around its axes
_LINE = 44  # characters of a title that fit
_MOST = 3  # comparisons of one study; more make a picture that nobody reads to its end
_BASE, _ARM = "var(--base)", "var(--arm)"


@dataclass(frozen=True)
class CardPanel:
    """One comparison. bands: baseline and arm over steps, or None. values: seed by seed, baseline and arm, in the order
    of seeds, where there are no bands."""

    title: str
    subtitle: str
    names: tuple[str, str]
    unit: Unit
    bands: tuple[Band, Band] | None = None
    values: tuple[tuple[float, float], ...] = ()


def find_studies(name: str, analyses: Iterable[Analysis]) -> list[Analysis]:
    """Those with a comparison that changes this technique and no other."""
    return [a for a in analyses if any(_changes_only(a, pair, name) for pair in a.spec.pairs)]


def draw_card_curves(name: str, analyses: Iterable[Analysis]) -> str:
    """An SVG file that follows the reader's light or dark scheme; "" where no study has a row to show."""
    panels = [panel for a in analyses for panel in _build_panels(a, name)]
    if not panels:
        return ""
    parts: list[str] = []
    for i, panel in enumerate(panels):
        left, top = _PANEL * (i % 2), _HEIGHT * (i // 2)
        parts += [f'<g transform="translate({left} {top})">', *_draw_panel(panel), "</g>"]
    width = _WIDTH if len(panels) > 1 else _PANEL
    said = "; ".join(f"{p.title}, {p.subtitle}" for p in panels)
    return build_svg(width, _HEIGHT * ((len(panels) + 1) // 2), _TEXT, said, parts, f"{STYLE}\n{ARM_STYLE}")


def _changes_only(a: Analysis, pair: ArmPair, name: str) -> bool:
    made = find_changed_techniques(a, *pair)
    return bool(made) and all(t == name or t.startswith(f"{name}_") for t in made)


def _build_panels(a: Analysis, name: str) -> Iterator[CardPanel]:
    unit = choose_report_unit(a)
    scale = f", {unit.values}" if unit.values else ""
    shown = [pair for pair in a.spec.pairs if _changes_only(a, pair, name)]
    for arm, baseline in shown[:_MOST]:
        title, names = a.spec.words.get((arm, baseline)) or f"{arm} against {baseline}", (baseline, arm)
        before, after = a.values(baseline), a.values(arm)
        seeds = sorted(before.keys() & after.keys())
        about = f"{a.spec.name}: %s, {len(seeds)} seeds"
        if (bands := _find_bands(a, a.spec.metric, names)) is not None:
            yield CardPanel(title, about % f"{a.spec.metric}{scale}", names, unit, bands)
            continue
        if seeds:
            values = tuple((before[seed], after[seed]) for seed in seeds)
            yield CardPanel(title, about % f"{a.spec.metric}{scale}", names, unit, values=values)
        if (bands := _find_bands(a, TRAIN_LOSS, names)) is not None:
            yield CardPanel(title, about % TRAIN_LOSS, names, Unit(1.0, "", "", 3), bands)


def _find_bands(a: Analysis, key: str, names: tuple[str, str]) -> tuple[Band, Band] | None:
    """Of two arms with at least three points each: a line through fewer says nothing about its course."""
    found = [band for name in names if (band := a.curves.get(key, {}).get(name)) is not None and len(band.steps) > 2]
    return (found[0], found[1]) if len(found) == 2 else None


def _draw_panel(panel: CardPanel) -> list[str]:
    shown = [*_shown_values(panel)]
    room = (max(shown) - min(shown) or abs(shown[0]) or 1.0) * 0.06
    low, high = min(shown) - room, max(shown) + room

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value * panel.unit.scale - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    first, *more = wrap(panel.title, _LINE)
    parts = [draw_bold(4, 16, first, "start", "var(--ink)")]
    if more:
        parts.append(draw_bold(4, 33, shorten(" ".join(more), _LINE), "start", "var(--ink)"))
    parts.append(draw_text(4, 50 if more else 33, shorten(panel.subtitle, 50), "start", "var(--faint)"))
    for tick in list_ticks(low, high):
        at = round(y(tick / panel.unit.scale), 1)
        parts.append(draw_line(_LEFT, _PANEL - _RIGHT, at, at, "var(--grid)", 0.8))
        parts.append(draw_text(_LEFT - 6, at + 4.5, f"{tick:g}".replace("-", MINUS), "end", "var(--faint)"))
    return parts + (_draw_bands(panel, panel.bands, y) if panel.bands else _draw_pairs(panel, y))


def _shown_values(panel: CardPanel) -> Iterator[float]:
    """All that must be inside the axes: of bands what comes after the first third of training, so that the late
    difference can be seen."""
    for band in panel.bands or ():
        late = len(band.steps) // 3
        yield from (v * panel.unit.scale for v in (*band.low[late:], *band.high[late:]))
    for both in panel.values:
        yield from (v * panel.unit.scale for v in both)


def _draw_bands(panel: CardPanel, bands: tuple[Band, Band], y: Callable[[float], float]) -> list[str]:
    """Means with bands; names at the ends."""
    last = max(band.steps[-1] for band in bands)
    right = _PANEL - _RIGHT

    def x(step: float) -> float:
        return _LEFT + step / last * (right - _LEFT)

    parts = [  # cut off at the ends of the axis
        f'<svg y="{_TOP}" width="{right + 2}" height="{_HEIGHT - _BOTTOM - _TOP}" '
        f'viewBox="0 {_TOP} {right + 2} {_HEIGHT - _BOTTOM - _TOP}">'
    ]
    for band, colour in zip(bands, (_BASE, _ARM), strict=True):
        xs = [x(step) for step in band.steps]
        parts.append(draw_band(xs, [y(v) for v in band.low], [y(v) for v in band.high], colour))
        parts.append(draw_curve(xs, [y(v) for v in band.mean], colour, 2))
    parts.append("</svg>")
    ends = spread_apart([y(band.mean[-1]) for band in bands], 16)
    for name, end, colour in zip(panel.names, ends, (_BASE, _ARM), strict=True):
        parts.append(draw_bold(right + 6, round(end + 4.5, 1), shorten(name, 13), "start", colour))
    for step in [tick for tick in list_ticks(0, last) if tick == int(tick)][::2]:
        parts.append(draw_text(x(step), _HEIGHT - _BOTTOM + 18, f"{step:,.0f}", "middle", "var(--faint)"))
    parts.append(draw_text(right + 6, _HEIGHT - _BOTTOM + 18, "step", "start", "var(--faint)"))
    return parts


def _draw_pairs(panel: CardPanel, y: Callable[[float], float]) -> list[str]:
    """A line for each seed from the baseline's value to the arm's; a bar at each mean."""
    xs = (_LEFT + 84.0, _PANEL - _RIGHT - 12.0)
    parts: list[str] = []
    for both in panel.values:
        ys = [y(value) for value in both]
        parts.append(draw_curve(xs, ys, "var(--faint)", 0.9))
        parts += [draw_dot(xs[0], ys[0], _BASE), draw_dot(xs[1], ys[1], _ARM)]
    for i, (name, colour, side, anchor) in enumerate(
        zip(panel.names, (_BASE, _ARM), (-1, 1), ("end", "start"), strict=True)
    ):
        mean = sum(both[i] for both in panel.values) / len(panel.values)
        at = round(y(mean), 1)
        parts.append(draw_line(xs[i] + 10 * side, xs[i] + 34 * side, at, at, colour, 3.5))
        parts.append(draw_bold(xs[i] + 40 * side, round(at + 4.5, 1), panel.unit.value(mean), anchor, colour))
        parts.append(draw_bold(xs[i], _HEIGHT - _BOTTOM + 18, shorten(name, 22), "middle", colour))
    return parts

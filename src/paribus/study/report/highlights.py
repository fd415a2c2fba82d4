"""A few results for a front page: a short table and a picture of them, ours beside the papers'.

The table is between two markers, the first of which names comparisons in order, each as STUDY/ARM: the first comparison
of that arm. Made from the recorded rows only.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import DASH, MINUS
from paribus.core.spelling import did_you_mean
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.markdown import escape_markdown
from paribus.study.report.markers import Markers
from paribus.study.report.svg import build_svg, draw_line, draw_rectangle, draw_text, list_ticks
from paribus.study.report.wording import VERDICT_KINDS, Unit
from paribus.study.stats import Comparison

HIGHLIGHTS = Markers(
    re.compile(r"^<!-- paribus highlights: begin((?:\s+[\w-]+/[\w.+-]+)+)\.\s[^\n]*-->$", re.MULTILINE),
    "<!-- paribus highlights: end -->",
    "<!-- paribus highlights: begin STUDY/ARM ... . (any words) -->",
)
_WIDTH, _NAMES, _VERDICTS, _ROW, _TOP = 960, 370, 190, 28, 6


@dataclass(frozen=True)
class Highlight:
    """One comparison. what: the change in words. published: the paper's difference, None where there is none. All
    numbers in the metric's own unit."""

    what: str
    study: str
    setting: str
    limits: str
    comparison: Comparison
    unit: Unit
    margin: float
    published: float | None

    @property
    def verdict(self) -> str:
        return self.comparison.judgement.verdict.value


def find_highlights(analyses: Mapping[str, Analysis], names: Sequence[str], path: Path) -> list[Highlight]:
    """names: STUDY/ARM each. Raises ConfigError for one that is not there, or whose metric is no accuracy."""
    return [_find_one(analyses, name, path) for name in names]


def _find_one(analyses: Mapping[str, Analysis], name: str, path: Path) -> Highlight:
    study, _, arm = name.partition("/")
    if study not in analyses:
        raise ConfigError(f"{path}: its marker names {name}; no recorded study {study}{did_you_mean(study, analyses)}")
    a = analyses[study]
    found = next((x.comparison for x in a.comparisons if x.comparison.arm == arm), None)
    unit = choose_report_unit(a)
    if found is None or unit.differences != "points":
        arms = [x.comparison.arm for x in a.comparisons]
        why = "its metric is no accuracy" if found is not None else f"compared are {', '.join(arms)}"
        raise ConfigError(f"{path}: its marker names {name}; {why}")
    pair = (found.arm, found.baseline)
    published = next((said.difference for said, _ in a.reported if (said.arm, said.against) == pair), None)
    what = a.spec.words.get(pair) or f"{found.arm} against {found.baseline}"
    return Highlight(what, study, a.spec.setting, a.spec.limits, found, unit, a.spec.margin, published)


def format_highlights(found: Sequence[Highlight]) -> str:
    """Markdown: what was changed, where, by how much, what that means, and what it cannot show. Its cells are not
    padded: the longest of them would make lines of 400 characters for who reads the file as text."""
    head = ("change", "setting", "difference in points (95 % interval)", "verdict; what this setting cannot show")
    return "\n".join(_format_row(cells) for cells in (head, ("---",) * len(head), *map(_list_cells, found)))


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list_cells(h: Highlight) -> tuple[str, ...]:
    e = h.comparison.estimate
    interval = h.unit.interval(e.low, e.high) or DASH
    paper = f"; paper {h.unit.difference(h.published)}" if h.published is not None else ""
    limits = h.limits.partition(";")[0].rstrip(". ")  # what follows the first semicolon gives reasons
    return (
        f"[{escape_markdown(h.what)}](experiments/{h.study})",
        escape_markdown(h.setting) or DASH,
        f"{h.unit.difference(e.mean)} ({interval}), {e.n} seeds{paper}".replace(" to ", "\u00a0to\u00a0"),
        f"**{h.verdict}**" + (f"; not shown: {escape_markdown(limits)}" if limits else ""),
    )


def draw_highlights(found: Sequence[Highlight]) -> str:
    """A row for each: the change, our interval, a cross for the paper's difference, the verdict. Shaded: the smallest
    effect of interest. An SVG file that follows the reader's light or dark scheme."""
    ends = [0.0]
    for h in found:
        e = h.comparison.estimate
        ends += [v * h.unit.scale for v in (e.mean, e.low, e.high, h.published or 0.0) if math.isfinite(v)]
    room = (max(ends) - min(ends) or 1.0) * 0.04
    low, high = min(ends) - room, max(ends) + room
    inner, bottom = _WIDTH - _NAMES - _VERDICTS, _TOP + _ROW * len(found)

    def x(value: float) -> float:
        return round(_NAMES + (value - low) / (high - low) * inner, 1)

    parts: list[str] = []
    for i, h in enumerate(found):
        margin = h.margin * h.unit.scale
        parts.append(draw_rectangle(x(-margin), x(margin), _TOP + _ROW * i, _ROW, "var(--margin)"))
    for tick in list_ticks(low, high):
        parts.append(draw_line(x(tick), x(tick), _TOP, bottom, "var(--grid)" if tick else "var(--faint)", 0.8))
        parts.append(draw_text(x(tick), bottom + 16, _format_tick(tick), "middle", "var(--faint)"))
    axis = (
        "difference in accuracy, points (better →). Bar: 95 % interval here; cross: the paper's; shaded: too small to "
        "matter"
    )
    parts.append(draw_text(_WIDTH / 2, bottom + 36, axis, "middle", "var(--faint)"))
    for i, h in enumerate(found):
        parts += _draw_row(h, _TOP + _ROW * i + _ROW / 2, x)
    said = "; ".join(f"{h.what} {h.unit.difference(h.comparison.estimate.mean)}: {h.verdict}" for h in found)
    return build_svg(_WIDTH, bottom + 46, 12, said, parts)


def _draw_row(h: Highlight, y: float, x: Callable[[float], float]) -> list[str]:
    e, scale = h.comparison.estimate, h.unit.scale
    colour = f"var(--{VERDICT_KINDS[h.comparison.judgement.verdict]})"
    parts = [
        draw_text(_NAMES - 12, y + 4, _shorten(h.what, 54), "end", "var(--ink)"),
        draw_text(_WIDTH - _VERDICTS + 12, y + 4, _shorten(h.verdict, 30), "start", colour),
    ]
    if math.isfinite(e.low):
        parts.append(draw_line(x(e.low * scale), x(e.high * scale), y, y, colour, 2.4))
    if math.isfinite(e.mean):
        parts.append(f'<circle cx="{x(e.mean * scale)}" cy="{y:g}" r="3.8" fill="{colour}"/>')
    if h.published is not None:
        at = x(h.published * scale)
        parts.append(draw_line(round(at - 4, 1), round(at + 4, 1), y - 4, y + 4, "var(--ink)", 1.4))
        parts.append(draw_line(round(at - 4, 1), round(at + 4, 1), y + 4, y - 4, "var(--ink)", 1.4))
    return parts


def _format_tick(value: float) -> str:
    return f"{value:+g}".replace("-", MINUS) if value else "0"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip(' ,')}…"

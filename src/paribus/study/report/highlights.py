"""A few results for a front page: questions with their answers in a short table, and a picture of all of them.

The table is between two markers, the first of which names a question each in order: STUDY/ARM, or STUDY/ARM,ARM where
several arms answer it. An arm stands for its first comparison, ARM:OTHER for the one against another. Made from the
recorded rows only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import DASH
from paribus.core.spelling import did_you_mean
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.forest import WIDTH, draw_forest, make_forest_row
from paribus.study.report.markdown import escape_markdown
from paribus.study.report.markers import Markers
from paribus.study.report.svg import build_svg
from paribus.study.report.wording import Unit
from paribus.study.stats import Comparison

HIGHLIGHTS = Markers(
    re.compile(r"^<!-- paribus highlights: begin((?:\s+[\w-]+/[\w.+,:-]+)+)\.\s[^\n]*-->$", re.MULTILINE),
    "<!-- paribus highlights: end -->",
    "<!-- paribus highlights: begin STUDY/ARM STUDY/ARM,ARM:OTHER ... . (any words) -->",
)
_AXIS = "difference in accuracy, points (better →). Bar: 95 % interval; cross: the paper's; shaded: too small to matter"


@dataclass(frozen=True)
class Answer:
    """One comparison. what: the change in words. published: the paper's difference in the metric's own unit, None where
    there is none. source: where it is from, without what is in brackets, mostly the two figures."""

    what: str
    comparison: Comparison
    published: float | None
    source: str = ""

    @property
    def verdict(self) -> str:
        return self.comparison.judgement.verdict.value


@dataclass(frozen=True)
class Highlight:
    """A study's question, and the comparisons that answer it. margin: in the metric's own unit."""

    study: str
    question: str
    setting: str
    limits: str
    unit: Unit
    margin: float
    answers: tuple[Answer, ...]


def find_highlights(analyses: Mapping[str, Analysis], names: Sequence[str], path: Path) -> list[Highlight]:
    """names: STUDY/ARM or STUDY/ARM,ARM each. Raises ConfigError for one that is not there, or whose metric is no
    accuracy."""
    return [_find_one(analyses, name, path) for name in names]


def _find_one(analyses: Mapping[str, Analysis], name: str, path: Path) -> Highlight:
    study, _, arms = name.partition("/")
    if study not in analyses:
        raise ConfigError(f"{path}: its marker names {name}; no recorded study {study}{did_you_mean(study, analyses)}")
    a = analyses[study]
    unit = choose_report_unit(a)
    if unit.differences != "points":
        raise ConfigError(f"{path}: its marker names {name}; its metric is no accuracy")
    answers = tuple(_find_answer(a, arm, f"{path}: its marker names {name}") for arm in arms.split(","))
    return Highlight(study, a.spec.question, a.spec.setting, a.spec.limits, unit, a.spec.margin, answers)


def _find_answer(a: Analysis, arm: str, where: str) -> Answer:
    name, _, other = arm.partition(":")
    made = [x.comparison for x in a.comparisons]
    found = next((c for c in made if c.arm == name and other in ("", c.baseline)), None)
    if found is None:
        raise ConfigError(f"{where}; compared are {', '.join(f'{c.arm}:{c.baseline}' for c in made)}")
    pair = (found.arm, found.baseline)
    what = a.spec.words.get(pair) or f"{found.arm} against {found.baseline}"
    said = next((said for said, _ in a.reported if (said.arm, said.against) == pair), None)
    if said is None:
        return Answer(what, found, None)
    return Answer(what, found, said.difference, re.sub(r" *\([^)]*\)", "", said.source))


def format_highlights(found: Sequence[Highlight]) -> str:
    """Markdown: what was asked, where, what came out, and what it cannot show. Its cells are not padded: the longest of
    them would make lines of 400 characters for who reads the file as text."""
    head = ("question", "setting", "answer: difference in points (95 % interval)", "not shown by this setting")
    return "\n".join(_format_row(cells) for cells in (head, ("---",) * len(head), *map(_list_cells, found)))


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list_cells(h: Highlight) -> tuple[str, ...]:
    limits = h.limits.partition(";")[0].rstrip(". ")  # what follows the first semicolon gives reasons
    return (
        f"[{escape_markdown(h.question)}](experiments/{h.study})",
        escape_markdown(h.setting) or DASH,
        "<br>".join(_format_answer(answer, h.unit) for answer in h.answers),
        escape_markdown(limits) or DASH,
    )


def _format_answer(answer: Answer, unit: Unit) -> str:
    e = answer.comparison.estimate
    interval = unit.interval(e.low, e.high) or DASH
    paper = ""
    if answer.published is not None:
        paper = f" (paper: {unit.difference(answer.published)}; {escape_markdown(answer.source)})"
    numbers = f"{unit.difference(e.mean)} ({interval}), {e.n} seeds{paper}".replace(" to ", "\u00a0to\u00a0")
    return f"{escape_markdown(answer.what)}: **{answer.verdict}**, {numbers}"


def draw_highlights(found: Sequence[Highlight]) -> str:
    """An SVG file that follows the reader's light or dark scheme, with a row for each answer."""
    answers = [(h, answer) for h in found for answer in h.answers]
    rows = [make_forest_row(x.what, x.comparison, h.unit, h.margin, x.published) for h, x in answers]
    said = "; ".join(f"{x.what} {h.unit.difference(x.comparison.estimate.mean)}: {x.verdict}" for h, x in answers)
    height, parts = draw_forest(rows, _AXIS)
    return build_svg(WIDTH, height, 12, said, parts)

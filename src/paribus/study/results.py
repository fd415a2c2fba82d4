"""The table of results: every claim that a study under experiments/ has put to the test, one row each, for the README.

It stands between two markers, the first of which names the studies in their order. Made from the rows on record and
nothing else, as the studies' own reports are.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.study.analysis import Analysis
from paribus.study.factorial import Effect
from paribus.study.markdown import escaped, table_of
from paribus.study.paired import Comparison
from paribus.study.report import Table, unit_for
from paribus.study.words import DASH, Unit

BEGIN = re.compile(r"^<!-- paribus results: begin((?: [\w-]+)+)\. [^\n]*-->$", re.MULTILINE)
END = "<!-- paribus results: end -->"
HEAD = (
    "what was changed",
    "the paper says",
    "measured here",
    "95 % interval",
    "seeds",
    "training time",
    "verdict",
    "study",
)


def named_in(readme: str, path: Path) -> tuple[str, ...]:
    """The studies that the README's marker asks for. Raises ConfigError unless it has one begin and then one end."""
    begins = list(BEGIN.finditer(readme))
    if len(begins) != 1 or readme.count(END) != 1 or readme.index(END) < begins[0].end():
        raise ConfigError(
            f"{path}: should have one line <!-- paribus results: begin STUDY ... . (any words) --> and after it one "
            f"line {END}; found {len(begins)} and {readme.count(END)}"
        )
    return tuple(begins[0][1].split())


def readme_with(table: str, readme: str) -> str:
    """The README with this table between its markers."""
    before, after = readme[: next(BEGIN.finditer(readme)).end()], readme[readme.index(END) :]
    return f"{before}\n\n{table}\n\n{after}"


def results_table(analyses: Iterable[Analysis]) -> str:
    """Markdown: a table of all comparisons, or of all effects where the study is a factorial one, then the studies'
    settings, cost and commands."""
    analyses = list(analyses)
    rows = tuple(row for analysis in analyses for row in _rows(analysis))
    links = "\n".join(_study(analysis) for analysis in analyses)
    return f"{_linked(table_of(Table(HEAD, rows, frozenset({0, 1, 6, 7}))), analyses)}\n\n{links}"


def _linked(table: str, analyses: Sequence[Analysis]) -> str:
    """The studies' names as links; made after the cells are escaped, which a link must not be."""
    for analysis in analyses:
        name = analysis.asked.name
        table = table.replace(f"@{escaped(name)}@", f"[{escaped(name)}](experiments/{name})")
    return table


def _rows(a: Analysis) -> Iterator[tuple[str, ...]]:
    unit, place = unit_for(a), f"@{a.asked.name}@"
    said = {(s.arm, s.against): s for s, _ in a.reported}
    ratios = {(o.arm, o.baseline): o.ratio for o in a.overheads}
    if a.effects:
        for effect in a.effects:
            yield (_effect(effect), DASH, *_numbers(effect, unit), DASH, str(effect.judgement), place)
        return
    for c in (compared.comparison for compared in a.comparisons):
        pair = (c.arm, c.baseline)
        claim = f"{unit.difference(said[pair].difference)}: {said[pair].source}" if pair in said else DASH
        what = a.asked.words.get(pair) or f"{c.arm} against {c.baseline}"
        ratio = ratios.get(pair, math.nan)
        time = DASH if math.isnan(ratio) else f"× {ratio:.2f}"
        yield what, claim, *_numbers(c, unit), time, str(c.judgement), place


def _numbers(c: Comparison | Effect, unit: Unit) -> tuple[str, str, str]:
    e = c.estimate
    return f"{unit.difference(e.mean)} {unit.differences}".rstrip(), unit.interval(e.low, e.high) or DASH, str(e.n)


def _effect(effect: Effect) -> str:
    name = " × ".join(effect.factors)
    return f"{name}: what each adds to the other's effect" if "×" in name else f"{name}, with the other off and on"


def _study(a: Analysis) -> str:
    hours = sum(_core_seconds(a)) / 3600
    setting = f"{escaped(a.asked.setting)}; " if a.asked.setting else ""
    machine = ", ".join(sorted({str(row.hardware.get("gpu") or row.hardware.get("cpu")) for row in a.rows}))
    trouble = f" **{len(a.missing) + len(a.failed)} runs missing or failed.**" if a.missing or a.failed else ""
    return (
        f"* [{escaped(a.asked.name)}](experiments/{a.asked.name}): {setting}{len(a.rows)} runs, {hours:.1f} "
        f"core-hours on {escaped(machine)}. `{a.asked.again[0]}`{trouble}"
    )


def _core_seconds(a: Analysis) -> Iterator[float]:
    for row in a.rows:
        spent = [row.cost.get(key) or 0.0 for key in ("train_s", "eval_s")]
        yield sum(spent) * float(row.fingerprint.get("threads", 1))

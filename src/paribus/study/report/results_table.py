"""The table of results: every claim that a study under experiments/ has put to the test, one row each, for the README.

It stands between two markers, the first of which names the studies in their order. Made from the rows on record and
nothing else, as the studies' own reports are. Each technique's card has the rows that are about it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import unit_for
from paribus.study.report.markdown import escaped, table_of
from paribus.study.report.model import Table
from paribus.study.report.wording import DASH, Unit, count
from paribus.study.stats.factorial import Effect
from paribus.study.stats.paired import Comparison

BEGIN = re.compile(r"^<!-- paribus results: begin((?: [\w-]+)+)\. [^\n]*-->$", re.MULTILINE)
END = "<!-- paribus results: end -->"
_KEY = "technique"
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


@dataclass(frozen=True)
class Claim:
    """One row: cells under HEAD, the last of them the study's name; techniques: those that make the difference.
    against: whether the measured difference has another sign than the paper's, be it decided or not."""

    techniques: frozenset[str]
    cells: tuple[str, ...]
    against: bool = False


def results_table(analyses: Iterable[Analysis]) -> str:
    """Markdown: a table of all comparisons, or of all effects where the study is a factorial one, then the studies'
    settings and cost."""
    analyses = list(analyses)
    found = [claim for analysis in analyses for claim in claims(analysis)]
    against = "; ".join(f"{claim.cells[0]} ({claim.cells[6]})" for claim in found if claim.against)
    signs = f"Of the other sign than in the paper: {escaped(against)}.\n\n" if against else ""
    links = "\n".join(_study(analysis) for analysis in analyses)
    return f"{claims_table(found, 'experiments')}\n\n{signs}{links}"


def claims_table(found: Sequence[Claim], experiments: str) -> str:
    """Markdown. experiments: where that folder is, from the file that the table stands in."""
    table = table_of(Table(HEAD, tuple((*c.cells[:-1], f"@{c.cells[-1]}@") for c in found), frozenset({0, 1, 6, 7})))
    for name in dict.fromkeys(claim.cells[-1] for claim in found):  # last: what table_of escapes is a link no more
        link = f"[{escaped(name)}]({experiments}/{name}): `paribus study run experiments/{name} --repeat`"
        table = table.replace(f"@{escaped(name)}@", link)
    return table


def claims(a: Analysis) -> Iterator[Claim]:
    """All comparisons of a study, or all effects where it is a factorial one."""
    unit = unit_for(a)
    if a.effects:
        for effect in a.effects:
            made = frozenset[str]().union(*(_made_by(a, factor) for factor in effect.factors))
            numbers = _numbers(effect, unit)
            yield Claim(made, (_effect(effect), DASH, *numbers, DASH, str(effect.judgement), a.asked.name))
        return
    said = {(s.arm, s.against): s for s, _ in a.reported}
    ratios = {(o.arm, o.baseline): o.ratio for o in a.overheads}
    for c in (compared.comparison for compared in a.comparisons):
        pair = (c.arm, c.baseline)
        claim = f"{unit.difference(said[pair].difference)}: {said[pair].source}" if pair in said else DASH
        what = a.asked.words.get(pair) or f"{c.arm} against {c.baseline}"
        ratio = ratios.get(pair, math.nan)
        time = DASH if math.isnan(ratio) else f"× {ratio:.2f}"
        made = _techniques(a, c.arm) ^ _techniques(a, c.baseline)
        against = pair in said and said[pair].difference * c.estimate.mean < 0
        yield Claim(made, (what, claim, *_numbers(c, unit), time, str(c.judgement), a.asked.name), against)


def _techniques(a: Analysis, arm: str) -> frozenset[str]:
    """The overlays that an arm names."""
    named = [
        value for key, _, value in (o.partition("=") for o in (*a.asked.recipe, *a.asked.arms[arm])) if key == _KEY
    ]
    return frozenset(re.findall(r"\w+", named[-1])) - {"baseline"} if named else frozenset()


def _made_by(a: Analysis, factor: str) -> frozenset[str]:
    """The overlays that all arms with this factor have, and none without it."""
    on = a.asked.factors[factor]
    without = frozenset[str]().union(*(_techniques(a, arm) for arm in a.asked.arms if arm not in on))
    return frozenset.intersection(*(_techniques(a, arm) for arm in on)) - without


def _numbers(c: Comparison | Effect, unit: Unit) -> tuple[str, str, str]:
    e = c.estimate
    mean = f"{unit.difference(e.mean)} {unit.differences}".rstrip() if e.n else DASH
    return mean, unit.interval(e.low, e.high) or DASH, str(e.n)


def _effect(effect: Effect) -> str:
    name = " × ".join(effect.factors)
    return f"{name}, interaction" if len(effect.factors) > 1 else f"{name}, averaged over the other off and on"


def _study(a: Analysis) -> str:
    minutes = sum(_core_seconds(a)) / 60
    setting = f"{escaped(a.asked.setting)}; " if a.asked.setting else ""
    machine = ", ".join(sorted({str(row.hardware.get("gpu") or row.hardware.get("cpu")) for row in a.rows}))
    trouble = f" **{len(a.missing) + len(a.failed)} runs missing or failed.**" if a.missing or a.failed else ""
    return (
        f"* [{escaped(a.asked.name)}](experiments/{a.asked.name}): {setting}{len(a.rows)} runs, "
        f"{count(round(minutes), 'core-minute')} on {escaped(machine)}.{trouble}"
    )


def _core_seconds(a: Analysis) -> Iterator[float]:
    for row in a.rows:
        spent = [row.cost.get(key) or 0.0 for key in ("train_s", "eval_s")]
        yield sum(spent) * float(row.fingerprint.get("threads", 1))

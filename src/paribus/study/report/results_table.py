"""The table of results: every claim that a study under experiments/ has tested, one row each, for a page of results.

It is between two markers, the first of which names the studies in order. Made from the recorded rows only, like the
studies' own reports. Each technique's card has the rows about it.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from paribus.core.formatting import DASH, format_count
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.markdown import escape_markdown, format_table
from paribus.study.report.markers import Markers
from paribus.study.report.model import Table
from paribus.study.report.sections_beside import choose_secondary_unit, name_metric
from paribus.study.report.wording import Unit
from paribus.study.stats.factorial import Effect
from paribus.study.stats.paired import Comparison

RESULTS_TABLE = Markers(
    re.compile(r"^<!-- paribus results: begin((?: [\w-]+)+)\. [^\n]*-->$", re.MULTILINE),
    "<!-- paribus results: end -->",
    "<!-- paribus results: begin STUDY ... . (any words) -->",
)
_TECHNIQUE_KEY = "technique"
_ACCURACY = "val/acc1"
_BESIDE_HEAD = (
    "what was changed",
    "metric",
    "the paper says",
    "measured here",
    "95 % interval",
    "seeds",
    "verdict",
    "study",
)
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


@dataclass(frozen=True)
class Claim:
    """One row: cells under HEAD, the last of them the study's name; techniques: those whose effect it is.
    against: whether the measured difference has the opposite sign to the paper's, decided or not. learning: whether the
    arm was still learning at the end, by its loss on unmixed training images."""

    techniques: frozenset[str]
    cells: tuple[str, ...]
    against: bool = False
    learning: bool = False


def format_results_table(analyses: Iterable[Analysis], experiments: str = "experiments") -> str:
    """Markdown: a table of all comparisons, or of all effects where the study is a factorial one; a second one of their
    secondary metrics, where there are any; then the studies' settings and cost. experiments: where that folder is, from
    the file that has the table."""
    analyses = list(analyses)
    found = [claim for analysis in analyses for claim in build_claims(analysis)]
    against = "; ".join(f"{claim.cells[0]} ({claim.cells[6]})" for claim in found if claim.against)
    below = f"Opposite sign to the paper: {escape_markdown(against)}.\n\n" if against else ""
    learning = "; ".join(claim.cells[0] for claim in found if claim.learning)
    if learning:
        below += f"Still learning at the end, by the loss on unmixed training images: {escape_markdown(learning)}.\n\n"
    below += format_beside_table(analyses, experiments)
    links = "\n".join(_format_study(analysis, experiments) for analysis in analyses)
    return f"{format_claims_table(found, experiments)}\n\n{below}{links}"


def format_claims_table(found: Sequence[Claim], experiments: str) -> str:
    """Markdown. experiments: where that folder is, from the file that has the table."""
    return _format_linked(
        HEAD,
        [claim.cells for claim in found],
        frozenset({0, 1, 6, 7}),
        lambda name: (
            f"[{escape_markdown(name)}]({experiments}/{name}): `paribus study run experiments/{name} --repeat`"
        ),
    )


def _format_linked(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: frozenset[int], link: Callable[[str], str]
) -> str:
    """A table whose last cells are names of studies, as what `link` makes of them."""
    table = format_table(Table(head, tuple((*cells[:-1], f"@{cells[-1]}@") for cells in rows), left))
    for name in dict.fromkeys(cells[-1] for cells in rows):  # after format_table, which would escape the link
        table = table.replace(f"@{escape_markdown(name)}@", link(name))
    return table


def format_beside_table(analyses: Iterable[Analysis], experiments: str = "experiments") -> str:
    """A line for each comparison on each secondary metric that has a value, with a sentence above; "" if there are
    none."""
    analyses = list(analyses)
    rows = [cells for analysis in analyses for cells in build_beside_claims(analysis)]
    if not rows:
        return ""
    table = _format_linked(
        _BESIDE_HEAD,
        rows,
        frozenset({0, 1, 2, 6, 7}),
        lambda name: f"[{escape_markdown(name)}]({experiments}/{name})",
    )
    return (
        "## Beyond accuracy\n\n"
        "Secondary metrics, which decide nothing and are a family of their own in each study (↑: higher is better, ↓: "
        f"lower, –: neither):\n\n{table}\n\n{_name_contradictions(analyses)}"
    )


def _name_contradictions(analyses: Iterable[Analysis]) -> str:
    """Where a secondary metric has the opposite sign to the paper's, decided or not."""
    against = [
        f"{a.spec.words.get((said.arm, said.against)) or said.arm}, {said.metric} ({ours.judgement})"
        for a in analyses
        for said, ours in a.beside.reported
        if ours and said.difference * ours.estimate.mean < 0
    ]
    return (
        f"Of these, of the other sign than in the paper: {escape_markdown('; '.join(against))}.\n\n" if against else ""
    )


def build_beside_claims(a: Analysis) -> Iterator[tuple[str, ...]]:
    """Cells under _BESIDE_HEAD, the last of them the study's name: each comparison on each secondary metric."""
    published = {(said.metric, said.arm, said.against): said for said, _ in a.beside.reported}
    for one in a.beside.results:
        unit = choose_secondary_unit(one)
        for c in one.comparisons:
            if not c.estimate.n:
                continue
            said = published.get((one.asked.metric, c.arm, c.baseline))
            claim = f"{unit.difference(said.difference)}: {said.source}" if said else DASH
            what = a.spec.words.get((c.arm, c.baseline)) or f"{c.arm} against {c.baseline}"
            yield (what, name_metric(one), claim, *_format_estimate(c, unit), str(c.judgement), a.spec.name)


def build_claims(a: Analysis) -> Iterator[Claim]:
    """All comparisons of a study, or all effects where it is a factorial one."""
    unit = choose_report_unit(a)
    if a.effects:
        for effect in a.effects:
            made = frozenset[str]().union(*(_find_factor_techniques(a, factor) for factor in effect.factors))
            numbers = _format_estimate(effect, unit)
            yield Claim(made, (_format_effect(effect), DASH, *numbers, DASH, str(effect.judgement), a.spec.name))
        return
    published = {(s.arm, s.against): s for s, _ in a.reported}
    ratios = {(o.arm, o.baseline): o.ratio for o in a.overheads}
    for c in (compared.comparison for compared in a.comparisons):
        pair = (c.arm, c.baseline)
        claim = (
            f"{unit.difference(published[pair].difference)}: {published[pair].source}" if pair in published else DASH
        )
        what = (a.spec.words.get(pair) or f"{c.arm} against {c.baseline}") + _name_other_metric(a)
        ratio = ratios.get(pair, math.nan)
        time = DASH if math.isnan(ratio) else f"× {ratio:.2f}"
        made = find_changed_techniques(a, *pair) or _find_shared_techniques(a, *pair)
        against = pair in published and published[pair].difference * c.estimate.mean < 0
        learning = any((x.arm, x.baseline) == pair for x in a.still_learning)
        cells = (what, claim, *_format_estimate(c, unit), time, str(c.judgement), a.spec.name)
        yield Claim(made, cells, against, learning)


def _name_other_metric(a: Analysis) -> str:
    """ ", METRIC ↓" where a study is not about accuracy, which the table is about if it says nothing; else ""."""
    return "" if a.spec.metric == _ACCURACY else f", {a.spec.metric} {'↑' if a.spec.higher_is_better else '↓'}"


def find_changed_techniques(a: Analysis, arm: str, baseline: str) -> frozenset[str]:
    """The overlays that one of two arms has and the other has not."""
    return _find_techniques(a, arm) ^ _find_techniques(a, baseline)


def _find_shared_techniques(a: Analysis, *arms: str) -> frozenset[str]:
    """The overlays that both of two arms name for themselves: they compare a technique with a variant of it, a control
    perhaps."""
    own = (_find_techniques(a, arm) - _find_named(a.spec.recipe) for arm in arms)
    return frozenset.intersection(*own)


def _find_techniques(a: Analysis, arm: str) -> frozenset[str]:
    """The overlays that an arm names."""
    return _find_named((*a.spec.recipe, *a.spec.arms[arm]))


def _find_named(overrides: Sequence[str]) -> frozenset[str]:
    """By the last override that names any."""
    named = [value for key, _, value in (o.partition("=") for o in overrides) if key == _TECHNIQUE_KEY]
    return frozenset(re.findall(r"\w+", named[-1])) - {"baseline"} if named else frozenset()


def _find_factor_techniques(a: Analysis, factor: str) -> frozenset[str]:
    """The overlays that all arms with this factor have, and none without it."""
    on = a.spec.factors[factor]
    without = frozenset[str]().union(*(_find_techniques(a, arm) for arm in a.spec.arms if arm not in on))
    return frozenset.intersection(*(_find_techniques(a, arm) for arm in on)) - without


def _format_estimate(c: Comparison | Effect, unit: Unit) -> tuple[str, str, str]:
    e = c.estimate
    mean = f"{unit.difference(e.mean)} {unit.differences}".rstrip() if e.n else DASH
    return mean, unit.interval(e.low, e.high) or DASH, str(e.n)


def _format_effect(effect: Effect) -> str:
    name = " × ".join(effect.factors)
    return f"{name}, interaction" if len(effect.factors) > 1 else f"{name}, averaged over the other off and on"


def _format_study(a: Analysis, experiments: str) -> str:
    minutes = count_core_minutes(a)
    setting = f"{escape_markdown(a.spec.setting)}; " if a.spec.setting else ""
    machine = ", ".join(sorted({str(row.hardware.get("gpu") or row.hardware.get("cpu")) for row in a.rows}))
    trouble = f" **{len(a.missing) + len(a.failed)} runs missing or failed.**" if a.missing or a.failed else ""
    limits = f" Cannot show: {escape_markdown(a.spec.limits)}" if a.spec.limits else ""
    cost = f"{format_count(round(minutes), 'core-minute')}{_format_tuning_cost(a)}"
    return (
        f"* [{escape_markdown(a.spec.name)}]({experiments}/{a.spec.name}): {setting}{len(a.rows)} runs, {cost} on "
        f"{escape_markdown(machine)}.{trouble}{limits}"
    )


def _format_tuning_cost(a: Analysis) -> str:
    if a.tuning is None:
        return ""
    return f" and {sum(arm.minutes for arm in a.tuning.arms.values()):.0f} of tuning before"


def count_core_minutes(a: Analysis) -> float:
    """Of training and evaluation, over all runs: seconds times threads."""
    return sum(
        sum(row.cost.get(key) or 0.0 for key in ("train_s", "eval_s")) * float(row.fingerprint.get("threads", 1)) / 60
        for row in a.rows
    )

"""What papers claim, claim by claim, beside what the rows on record say: docs/claims.md, of docs/claims.yaml.

The list is written by hand; figures, intervals and verdicts come from the rows alone. A claim that nothing here
measured stays in the list, with the reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import Field

from paribus.core.build import instantiate, schema
from paribus.core.errors import ConfigError
from paribus.core.formatting import DASH, format_count
from paribus.core.spelling import did_you_mean
from paribus.study.analysis.analysis import Analysis
from paribus.study.report.build import choose_report_unit
from paribus.study.report.markdown import escape_markdown
from paribus.study.report.sections_beside import choose_secondary_unit
from paribus.study.report.wording import Unit
from paribus.study.stats import Comparison

TITLE = "# What the papers claim"
_HEAD = ("claim", "the paper says", "here", "difference (95 % interval)", "verdict", "where; what it cannot show")


@schema
class Measured:
    """A comparison of a study: arm, against another one where it has several, on a secondary metric or, by default, on
    the one that decides."""

    study: str
    arm: str
    against: str = ""
    metric: str = ""


@schema
class MeasuredWithoutStudy:
    """What needs no training, and so neither seeds nor a verdict. what: was measured; found: the figure; where: the
    command or page."""

    what: str
    found: str
    where: str


@schema
class PaperClaim:
    """says: the paper's figure, "" where we have not seen it. here: where it was measured; without_study: figures that
    need no training. Without either, not_here says why."""

    claim: str
    says: str = ""
    here: tuple[Measured, ...] = ()
    without_study: tuple[MeasuredWithoutStudy, ...] = ()
    not_here: str = ""

    @property
    def is_measured(self) -> bool:
        return bool(self.here or self.without_study)


@schema
class TechniqueClaims:
    technique: str
    paper: str
    claims: tuple[PaperClaim, ...] = Field(min_length=1)


def read_claims(path: Path) -> list[TechniqueClaims]:
    """Raises ConfigError for what is no list of claims."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: found {type(entries).__name__}; should be a list of techniques with their claims")
    try:
        return [_parse_technique(entry, str(i)) for i, entry in enumerate(entries)]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse_technique(entry: object, at: str) -> TechniqueClaims:
    if not isinstance(entry, dict) or not isinstance(entry.get("claims"), list):
        raise ConfigError(f"{at}: should be technique, paper, and a list of claims")
    claims = tuple(_parse_claim(node, f"{at}.claims.{i}") for i, node in enumerate(entry["claims"]))
    return instantiate(TechniqueClaims, {**entry, "claims": claims}, at)


def _parse_claim(node: object, at: str) -> PaperClaim:
    if not isinstance(node, dict):
        raise ConfigError(f"{at}: found {node!r}; should be claim, says, and here, without_study or not_here")
    found = {
        key: tuple(instantiate(made, one, f"{at}.{key}.{i}") for i, one in enumerate(_list_of(node, key, at, keys)))
        for key, made, keys in (
            ("here", Measured, "study, arm"),
            ("without_study", MeasuredWithoutStudy, "what, found, where"),
        )
    }
    claim = instantiate(PaperClaim, {**node, **found}, at)
    if claim.is_measured == bool(claim.not_here):
        raise ConfigError(f"{at}: should have here or without_study, or not_here with the reason, and not both")
    return claim


def _list_of(node: dict[str, object], key: str, at: str, keys: str) -> list[dict[str, object]]:
    found = node.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"{at}.{key}: found {found!r}; should be a list of {{{keys}}}")
    return found


def format_claims(claims: Sequence[TechniqueClaims], analyses: Mapping[str, Analysis], experiments: str) -> str:
    """The page. experiments: where that folder is, from the page. Raises ConfigError for a comparison that no study
    makes."""
    all_claims = [claim for one in claims for claim in one.claims]
    measured = sum(claim.is_measured for claim in all_claims)
    parts = [TITLE, _explain(len(all_claims), measured)]
    for one in claims:
        lines = [_format_row(_HEAD), _format_row(("---",) * len(_HEAD))]
        lines += [_format_row(cells) for claim in one.claims for cells in _list_rows(claim, analyses, experiments)]
        parts.append(f"## {one.technique}\n\n{one.paper}.\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _explain(claims: int, measured: int) -> str:
    return (
        "Made from `docs/claims.yaml` and the rows on record by `paribus results --write`. A paper's figure is context:"
        " its networks, data and schedules are larger by far, so that a verdict here is about the setting here, which "
        f"the study's page has in full. Of {format_count(claims, 'claim')}, {measured} were measured in some form and "
        f"{claims - measured} not, for the reason that is given. “{DASH}”: we have not seen the figure in print. ↑: "
        "higher is better, ↓: lower. Verdicts on the metric that decides a study are after Holm's correction over its "
        "comparisons, others after the one over their own family ([how](statistics.md))."
    )


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list_rows(claim: PaperClaim, analyses: Mapping[str, Analysis], experiments: str) -> Iterator[tuple[str, ...]]:
    """A row for each place where the claim was measured; after the first without the claim again."""
    head = (escape_markdown(claim.claim), escape_markdown(claim.says) or DASH)
    if not claim.is_measured:
        yield (*head, DASH, DASH, "not measured", escape_markdown(claim.not_here))
    for one in claim.without_study:
        yield (*head, escape_markdown(one.what), escape_markdown(one.found), "no study: no verdict", one.where)
        head = ("", "")
    for where in claim.here:
        a = _find_analysis(where, analyses)
        c, unit, better = _find_comparison(where, a)
        e, limits = c.estimate, a.spec.limits.partition(";")[0].rstrip(". ")
        metric = where.metric or a.spec.metric
        what = a.spec.words.get((c.arm, c.baseline)) or f"{c.arm} against {c.baseline}"
        yield (
            *head,
            escape_markdown(f"{what}: {metric} {better}"),
            f"{unit.difference(e.mean)} ({unit.interval(e.low, e.high) or DASH}), {e.n} seeds".replace(
                " to ", "\u00a0to\u00a0"
            ),
            f"**{c.judgement}**",
            f"[{where.study}]({experiments}/{where.study})"
            + (f": {escape_markdown(a.spec.setting)}" if a.spec.setting else "")
            + (f"; not shown: {escape_markdown(limits)}" if limits else ""),
        )
        head = ("", "")


def _find_analysis(where: Measured, analyses: Mapping[str, Analysis]) -> Analysis:
    if where.study not in analyses:
        raise ConfigError(f"claims: no recorded study {where.study}{did_you_mean(where.study, analyses)}")
    return analyses[where.study]


def _find_comparison(where: Measured, a: Analysis) -> tuple[Comparison, Unit, str]:
    """With the metric's unit and which way is better."""
    if where.metric:
        names = [one.asked.metric for one in a.beside.results]
        if where.metric not in names:
            raise ConfigError(
                f"claims: {where.study} has no secondary metric {where.metric}{did_you_mean(where.metric, names)}"
            )
        one = a.beside.find(where.metric)
        made, unit, higher = one.comparisons, choose_secondary_unit(one), one.asked.higher_is_better
    else:
        made, unit, higher = [x.comparison for x in a.comparisons], choose_report_unit(a), a.spec.higher_is_better
    found = [c for c in made if c.arm == where.arm and where.against in ("", c.baseline)]
    if len(found) != 1:
        pairs = ", ".join(f"{c.arm} against {c.baseline}" for c in made)
        raise ConfigError(
            f"claims: {where.study}, arm {where.arm}{f' against {where.against}' if where.against else ''}: found "
            f"{format_count(len(found), 'comparison')}; should be one of {pairs}"
        )
    return found[0], unit, {True: "↑", False: "↓", None: DASH}[higher]

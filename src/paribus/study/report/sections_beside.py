"""The sections of a report about what a study found beside its metric: secondary metrics, claims of papers, curves."""

from collections.abc import Iterator

from paribus.core.formatting import DASH, format_count, format_list, format_number
from paribus.study.analysis.analysis import Analysis
from paribus.study.analysis.beside import SecondaryResult
from paribus.study.report.model import Section, Table
from paribus.study.report.sections import NOT_AGAINST, VERDICT
from paribus.study.report.wording import Unit, choose_unit, format_p
from paribus.study.stats import Comparison

_ARROWS = {True: "↑", False: "↓", None: "–"}


def choose_secondary_unit(one: SecondaryResult) -> Unit:
    sizes = [one.margin, *(arm.sd for arm in one.arms.values()), *(c.estimate.sd for c in one.comparisons)]
    return choose_unit(one.asked.metric, sizes, one.asked.unit == "points")


def name_metric(one: SecondaryResult) -> str:
    """With an arrow the way that is better."""
    return f"{one.asked.metric} {_ARROWS[one.asked.higher_is_better]}"


def build_secondary(a: Analysis, unit: Unit) -> Section | None:
    """A panel for each metric, its comparisons, and its values by arm."""
    if not a.beside.results:
        return None
    single = len(a.spec.pairs) == 1  # then the caption says what is compared
    caption = "{} against {}".format(*a.spec.pairs[0]) if single else ""
    head = (
        *("metric", *(() if single else (a.spec.comparison_header,)), VERDICT, "seeds", "difference", "95 % interval"),
        *("p (difference)", "p (equivalence)"),
    )
    rows = tuple(
        (
            name_metric(one),
            *(() if single else (a.spec.label_comparison(c.arm, c.baseline),)),
            *_format_row(c, one),
        )
        for one in a.beside.results
        for c in one.comparisons
    )
    values = Table(
        ("metric", *a.spec.arms, "margin", "from"),
        tuple(_format_values(one) for one in a.beside.results),
        frozenset({0, len(a.spec.arms) + 2}),
        "Mean and standard deviation over seeds",
    )
    figures = tuple(f"also {one.asked.metric}" for one in a.beside.results)
    return Section(
        "secondary",
        "Secondary metrics",
        tuple(_list_notes(a)),
        (Table(head, rows, frozenset({0, 1} if single else {0, 1, 2}), caption), values),
        figures,
    )


def _format_row(c: Comparison, one: SecondaryResult) -> tuple[str, ...]:
    unit, e = choose_secondary_unit(one), c.estimate
    return (
        str(c.judgement),
        str(e.n) if c.paired else f"{e.n}, unpaired",
        _format_difference(c, unit),
        unit.interval(e.low, e.high) or DASH,
        format_p(c.judgement.p_zero),
        format_p(c.judgement.p_beyond),
    )


def _format_difference(c: Comparison, unit: Unit) -> str:
    return f"{unit.difference(c.estimate.mean)} {unit.differences}".rstrip() if c.estimate.n else DASH


def _format_values(one: SecondaryResult) -> tuple[str, ...]:
    unit = choose_secondary_unit(one)
    cells = [
        f"{unit.value(arm.mean)} ± {format_number(arm.sd * unit.scale, unit.digits)} {unit.values}".rstrip()
        if arm.n
        else DASH
        for arm in one.arms.values()
    ]
    n = sum(arm.n for arm in one.arms.values())
    sources = [name for name, count in (("rows", n - one.measured), ("measures", one.measured)) if count]
    margin = f"± {unit.size(one.margin)}" if one.margin else DASH
    return (name_metric(one), *cells, margin, " and ".join(sources) or "nowhere yet")


def _list_notes(a: Analysis) -> Iterator[str]:
    results, pairs = a.beside.results, format_count(len(a.spec.pairs), "comparison")
    family = len(results) * len(a.spec.pairs)
    stated = sum(one.margin > 0 for one in results)
    yield (
        f"They decide nothing: the verdict of this study is on {a.spec.metric}. They are a family of their own, "
        f"{pairs} × {format_count(len(results), 'metric')} = {family}: p (difference) is adjusted by Holm's rule over "
        f"these {family}"
        + (
            f", p (equivalence) over the {stated * len(a.spec.pairs)} whose metric has a margin (TOST). "
            if stated
            else ", and no margin is stated, so nothing can be called equivalent. "
        )
        + "Intervals are 95 % t intervals of the mean paired difference, each for itself."
    )
    yield (
        "↑: higher is better, ↓: lower is better, –: neither, and a difference is called higher or lower. Values from "
        "rows are of the end of training; those from measures were measured on the kept weights of the same runs, by "
        "paribus study measure."
    )
    missing = [f"{one.asked.metric} ({n} missing)" for one in results if (n := _count_missing(a, one))]
    if missing:
        yield f"Runs without a value: {format_list(missing)}. They take their pairs along."


def _count_missing(a: Analysis, one: SecondaryResult) -> int:
    return sum(len(arm.missing) for arm in one.arms.values())


def build_claims(a: Analysis, unit: Unit) -> Section | None:
    """What papers say of any of the metrics, beside ours. Of a study with one metric sections.build_paper tells it."""
    if not a.spec.also or not (a.reported or a.beside.reported):
        return None
    claims = [(said, ours, a.spec.metric, unit) for said, ours in a.reported]
    claims += [
        (said, ours, said.metric, choose_secondary_unit(a.beside.find(said.metric))) for said, ours in a.beside.reported
    ]
    rows = tuple(
        (
            f"{a.spec.words.get((said.arm, said.against)) or f'{said.arm} against {said.against}'}: {metric}",
            f"{shown.difference(said.difference)} {shown.differences}".rstrip(),
            _format_difference(ours, shown) if ours else DASH,
            (shown.interval(ours.estimate.low, ours.estimate.high) if ours else "") or DASH,
            str(ours.judgement) if ours else "not testable",
            said.source,
        )
        for said, ours, metric, shown in claims
    )
    limits = [f"Setting here: {a.spec.setting}." if a.spec.setting else ""]
    limits.append(f"What it cannot show: {a.spec.limits}" if a.spec.limits else "")
    notes = (NOT_AGAINST, " ".join(text for text in limits if text))
    head = ("claim", "the paper says", "here", "95 % interval here", VERDICT, "source")
    return Section(
        "claims",
        "Claims",
        tuple(note for note in notes if note),
        (Table(head, rows, frozenset({0, 4, 5})),),
        ("paper",) if a.reported else (),
    )


def build_panels(a: Analysis, unit: Unit) -> Section | None:
    if not a.beside.panels:
        return None
    notes = [
        "Mean over the measured runs of an arm; band: ± one standard deviation over seeds. Drawn from measures.jsonl. "
        "What each evaluator does is in docs/evaluation.md."
    ]
    if any(panel.diagonal for panel in a.beside.panels):
        notes.append(
            "Reliability: accuracy of the samples in a bin of confidence against their mean confidence, over the bins "
            "that every run fills; on the dashed line the two agree, below it the network is too sure."
        )
    figures = tuple(f"panel {panel.key}" for panel in a.beside.panels)
    return Section("panels", "Curves of the evaluators", tuple(notes), (), figures, short=False)

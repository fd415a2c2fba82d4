"""A verdict as a report, in the words of a study's."""

from collections.abc import Sequence

from paribus.core.formatting import DASH, format_count, format_number
from paribus.study.judge.judged import Judged
from paribus.study.judge.refusal import format_refusal
from paribus.study.report.model import Report, Section, Sentence, Table
from paribus.study.report.wording import (
    LOOKING_AGAIN,
    VERDICT_KINDS,
    Unit,
    format_p,
    format_verdict,
    names_more_seeds,
)
from paribus.study.stats.paired_binary import bootstrap_interval, mcnemar_p
from paribus.study.stats.resampling import Robustness, make_generator, robustness
from paribus.study.stats.verdict import Verdict

_MOST_RESAMPLED = 100  # seeds up to which robustness rows are made: 40 ms at 50, and beyond they add nothing to t


def build_judge_report(judged: Judged, again: Sequence[str] = (), *, robust: bool = False) -> Report:
    """again: the command. robust: with rows of resampling tests, which take longer than all else."""
    unit = judged.unit
    sections = (_build_differences(judged, unit), _build_arms(judged, unit), _build_counts(judged, unit))
    resampled = (_build_robustness(judged, unit),) if robust else ()
    undecided = any(names_more_seeds(c.judgement) for c in judged.comparisons) and judged.kind != "examples"
    return Report(
        name=judged.name,
        troubles=_list_troubles(judged),
        question=f"How do they differ from {judged.baseline} in {judged.metric.name}?",
        facts=_list_facts(judged, unit),
        verdicts=_list_verdicts(judged, unit),
        remarks=(LOOKING_AGAIN,) if undecided else (),
        cautions=judged.cautions,
        sections=tuple(section for section in (*sections, *resampled) if section is not None),
        again=tuple(again),
    )


def _list_verdicts(judged: Judged, unit: Unit) -> tuple[Sentence, ...]:
    found: list[Sentence] = []
    for c in judged.comparisons:
        said, numbers = format_verdict(c, unit, judged.rule.margin, judged.counted)
        if c.judgement.verdict is Verdict.UNTESTABLE:
            numbers = format_refusal(c, judged, unit)
        found.append(Sentence(VERDICT_KINDS[c.judgement.verdict], said, numbers))
    return tuple(found)


def _list_troubles(judged: Judged) -> tuple[str, ...]:
    missing, failed = len(judged.missing), len(judged.failed)
    return tuple(
        text for text, n in ((f"{format_count(missing, 'run')} missing", missing), (f"{failed} failed", failed)) if n
    )


def _list_facts(judged: Judged, unit: Unit) -> tuple[tuple[str, str], ...]:
    metric, margin, k = judged.metric, judged.rule.margin, len(judged.comparisons)
    direction = "higher" if metric.higher_is_better else "lower"
    numbers = ", in per cent" if metric.in_percent else ", as fractions" if metric.accuracy else ""
    family = f", adjusted by Holm's rule over {k} comparisons" if k > 1 else ""
    return (
        ("Metric", f"{metric.name}{numbers}; {direction} is better, {metric.why}"),
        (
            "Smallest effect of interest",
            unit.size(margin) if margin else "none given (--margin): nothing is equivalent",
        ),
        (f"Arms and {judged.counted.short}", _count_cells(judged)),
        ("Test", f"{judged.test}{family}"),
        ("Columns", judged.columns),
    )


def _count_cells(judged: Judged) -> str:
    """3 × 10, or how many there are at least and at most."""
    sizes = sorted({arm.n for arm in judged.arms.values()})
    of = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{len(judged.arms)} × {of}"


def _with_unit(unit: str, name: str) -> str:
    return f"{name} ({unit})" if unit else name


def _build_differences(judged: Judged, unit: Unit) -> Section:
    counted = judged.counted
    rows = tuple(
        (
            c.arm,
            c.judgement.describe(counted.one, counted.many),
            f"{c.estimate.n:,}",
            unit.difference(c.estimate.mean),
            unit.interval(c.estimate.low, c.estimate.high) or DASH,
            format_p(c.judgement.p_zero),
            format_p(c.judgement.p_beyond),
        )
        for c in judged.comparisons
    )
    name = _with_unit(unit.differences, "difference")
    head = (f"against {judged.baseline}", "verdict", counted.short, name, "95 % interval")
    notes = (
        "Each interval is for its own comparison; p values are adjusted for the number of comparisons and decide at "
        "0.05. “Better” means that the difference is not 0; how large it is, the interval shows.",
    )
    table = Table((*head, "p (difference)", "p (equivalence)"), rows, frozenset({0, 1}))
    return Section("differences", "Differences", notes, (table,), ("forest",))


def _build_arms(judged: Judged, unit: Unit) -> Section:
    rows = tuple(
        (
            name,
            f"{arm.n:,}",
            unit.value(arm.mean),
            *(() if judged.kind == "examples" else (format_number(arm.sd * unit.scale, unit.digits),)),
        )
        for name, arm in judged.arms.items()
    )
    head = ("arm", "n", _with_unit(unit.values, "mean"), *(() if judged.kind == "examples" else ("sd",)))
    return Section("arms", "Arms", (), (Table(head, rows),))


def bootstrap(judged: Judged) -> list[tuple[float, float]]:
    named = (make_generator("paired bootstrap", c.arm, c.baseline) for c in judged.comparisons)
    return [bootstrap_interval(o, random) for o, random in zip(judged.outcomes, named, strict=True)]


def _build_counts(judged: Judged, unit: Unit) -> Section | None:
    """Which of the two is right, on how many examples; and the bootstrap beside the interval."""
    if not judged.outcomes:
        return None
    rows = tuple(
        (
            c.arm,
            f"{o.arm:,}",
            f"{o.baseline:,}",
            f"{o.both:,}",
            f"{o.neither:,}",
            format_p(mcnemar_p(o.arm, o.baseline)),
            unit.interval(low, high) or DASH,
        )
        for c, o, (low, high) in zip(judged.comparisons, judged.outcomes, bootstrap(judged), strict=True)
    )
    clustered = judged.outcomes[0].clusters is not None
    over = "whole clusters" if clustered else "examples"
    notes = (
        f"Bootstrap: percentile interval over resampled {over}; no verdict depends on it. McNemar's p is not adjusted"
        + (" and takes examples for independent, which in clusters they are not." if clustered else "."),
    )
    head = (
        f"against {judged.baseline}",
        "it alone right",
        f"{judged.baseline} alone right",
        "both",
        "neither",
        "McNemar p",
        _with_unit(unit.differences, "bootstrap 95 % interval"),
    )
    return Section("counts", "Who is right", notes, (Table(head, rows),))


def resample(judged: Judged) -> list[Robustness | None]:
    return [
        robustness(c, judged.name) if 0 < len(c.differences) <= _MOST_RESAMPLED else None for c in judged.comparisons
    ]


def _build_robustness(judged: Judged, unit: Unit) -> Section | None:
    rows = tuple(
        (
            c.arm,
            format_p(found.sign_flip_p),
            format_p(found.sign_flip_floor),
            unit.interval(found.bca_low, found.bca_high) or DASH,
        )
        for c, found in zip(judged.comparisons, resample(judged), strict=True)
        if found is not None
    )
    if not rows:
        return None
    head = (f"against {judged.baseline}", "sign-flip p", "smallest possible", "BCa 95 % interval")
    note = (
        "The same question without assuming normal differences, not adjusted for the number of comparisons. No verdict "
        "depends on it. BCa: from 20 seeds on."
    )
    return Section("robustness", "Robustness", (note,), (Table(head, rows),), short=False)

"""From an analysis to the report: which sections there are, in what order, and what is said above them.

Figures that a section names are drawn by figures/. What each number means is said in the words of docs/statistics.md.
"""

from collections.abc import Callable, Mapping

from paribus.study.analysis.analysis import Analysis
from paribus.study.report import sections, sections_cost, sections_runs, sections_weights
from paribus.study.report.model import Report, Section, Sentence
from paribus.study.report.wording import Unit, count, listed, unit_of, verdict_sentence
from paribus.study.stats.verdict import Verdict

KINDS = {
    Verdict.BETTER: "better",
    Verdict.BETTER_WITHIN: "same",
    Verdict.WORSE: "worse",
    Verdict.WORSE_WITHIN: "same",
    Verdict.EQUIVALENT: "same",
    Verdict.UNDECIDED: "open",
    Verdict.UNTESTABLE: "open",
}


def report_of(analysis: Analysis) -> Report:
    """The report of an analysis; sections that have nothing to say are left out."""
    asked, unit = analysis.asked, unit_for(analysis)
    makers: tuple[Callable[[Analysis, Unit], Section | None], ...] = (
        sections.differences,
        sections.arms,
        sections.beside,
        sections.robustness,
        sections.curves,
        sections_weights.weights,
        sections_cost.accuracy_and_cost,
        sections_cost.time_to_target,
        sections.factors,
        sections.paper,
        sections_cost.overheads,
        sections.selection,
        sections_runs.runs,
        sections_runs.provenance,
        sections_runs.overrides,
    )
    made = [make(analysis, unit) for make in makers]
    return Report(
        name=asked.name,
        troubles=_troubles(analysis),
        question=asked.question,
        facts=_facts(analysis, unit),
        verdicts=tuple(
            Sentence(KINDS[c.comparison.judgement.verdict], *verdict_sentence(c.comparison, unit, asked.margin))
            for c in analysis.comparisons
        ),
        cautions=_cautions(analysis),
        sections=tuple(section for section in made if section is not None),
        again=asked.again,
    )


def unit_for(analysis: Analysis) -> Unit:
    sds = [arm.sd for arm in analysis.arms.values()]
    return unit_of(
        analysis.asked.metric, [analysis.asked.margin, *sds, *(c.comparison.estimate.sd for c in analysis.comparisons)]
    )


def _troubles(a: Analysis) -> tuple[str, ...]:
    planned = len(a.asked.arms) * len(a.asked.seeds)
    told: list[str] = []
    if a.missing:
        told.append(f"{len(a.missing)} of {count(planned, 'run')} missing")
    if a.failed:
        told.append(f"{len(a.failed)} failed")
    if a.mixed or a.numerics:
        told.append("numerics mixed")
    return tuple(told)


def _facts(a: Analysis, unit: Unit) -> tuple[tuple[str, str], ...]:
    asked = a.asked
    steps = sorted({row.steps for row in a.rows})
    split = asked.metric.partition("/")[0]
    sizes = sorted({row.sizes[split] for row in a.rows if split in row.sizes})
    of = f" ({listed(f'{size:,}' for size in sizes)} images)" if sizes else ""
    facts = [
        ("Setting", asked.setting),
        ("Metric", f"{asked.metric} at the last step, {'higher' if asked.higher_is_better else 'lower'} is better{of}"),
        ("Smallest effect of interest", unit.size(asked.margin) if asked.margin else "none stated"),
        ("Arms and seeds", f"{len(asked.arms)} × {len(asked.seeds)}" if asked.seeds else f"{len(asked.arms)} arms"),
        ("Steps", listed(f"{n:,}" for n in steps)),
        ("Settings", asked.settings),
    ]
    return tuple((name, text) for name, text in facts if text)


def _cautions(a: Analysis) -> tuple[str, ...]:
    """The troubles at length: which runs, and what it means for the numbers."""
    told: list[str] = []
    if a.missing:
        told.append(
            f"Missing: {listed(a.missing)}. They take their pairs along; the numbers are of the runs that are there."
        )
    if a.failed:
        told.append(f"Failed: {_failures(a.failed)}. If an arm fails because it is unstable, what is left flatters it.")
    if a.mixed:
        told.append(
            f"Numerically mixed within a run, resumed under another fingerprint: {listed(a.mixed)}. Such a run is not "
            "promised to repeat bit for bit."
        )
    for key, values in a.numerics.items():
        told.append(
            f"Numerically mixed: runs differ in {key} ({listed(values, 4)}). Each repeats bit for bit where it was "
            f"made; "
            "a difference between arms may hold a trace of it."
        )
    return tuple(told)


def _failures(failed: Mapping[str, str]) -> str:
    """Cells that failed for one reason together."""
    by_reason: dict[str, list[str]] = {}
    for cell, why in failed.items():
        by_reason.setdefault(why, []).append(cell)
    return "; ".join(f"{listed(cells)} ({why})" for why, cells in by_reason.items())

"""From an analysis to the report: which sections there are, in what order, and what is stated above them.

Figures that a section names are drawn by figures/. Numbers are explained in the words of docs/statistics.md.
"""

from collections.abc import Callable, Mapping, Sequence

from paribus.core.formatting import format_count, format_list, format_number
from paribus.study.analysis.analysis import Analysis
from paribus.study.pictures import explain_other_row
from paribus.study.report import (
    sections,
    sections_beside,
    sections_cost,
    sections_differences,
    sections_noise,
    sections_pictures,
    sections_runs,
    sections_tuning,
    sections_weights,
)
from paribus.study.report.model import Report, Section, Sentence
from paribus.study.report.wording import (
    LOOKING_AGAIN,
    VERDICT_KINDS,
    Unit,
    choose_unit,
    format_verdict,
    names_more_seeds,
)

_OF_ALL_IMAGES = ("acc1", "acc5", "loss")


def build_report(analysis: Analysis, changes: Sequence[str] = ()) -> Report:
    """The report of an analysis; empty sections are left out. changes: of the study after its first row, in words."""
    spec, unit = analysis.spec, choose_report_unit(analysis)
    builders: tuple[Callable[[Analysis, Unit], Section | None], ...] = (
        sections_differences.build_differences,
        sections_differences.build_along,
        sections_differences.build_looks,
        sections_beside.build_secondary,
        sections_beside.build_claims,
        sections.build_arms,
        sections_pictures.build_pictures,
        sections.build_sensitivity,
        sections_noise.build_noise,
        sections.build_robustness,
        sections.build_curves,
        sections_beside.build_panels,
        sections_weights.build_weights,
        sections_cost.build_accuracy_and_cost,
        sections_cost.build_time_to_target,
        sections.build_factors,
        sections.build_paper,
        sections_cost.build_overheads,
        sections_tuning.build_tuning,
        sections_tuning.build_trials,
        sections.build_selection,
        sections_runs.build_runs,
        sections_runs.build_provenance,
        sections_runs.build_overrides,
    )
    built = [make(analysis, unit) for make in builders]
    return Report(
        name=spec.name,
        troubles=_list_troubles(analysis),
        question=spec.question,
        facts=_list_facts(analysis, unit),
        verdicts=tuple(
            Sentence(
                VERDICT_KINDS[c.comparison.judgement.verdict],
                *format_verdict(c.comparison, unit, spec.margin, interval=choose_interval_name(analysis)),
                why=_explain(analysis, i),
            )
            for i, c in enumerate(analysis.comparisons)
        ),
        remarks=_list_remarks(analysis),
        cautions=(*changes, *_list_cautions(analysis)),
        sections=tuple(section for section in built if section is not None),
        again=spec.again,
    )


def choose_report_unit(analysis: Analysis) -> Unit:
    sds = [arm.sd for arm in analysis.arms.values()]
    return choose_unit(
        analysis.spec.metric, [analysis.spec.margin, *sds, *(c.comparison.estimate.sd for c in analysis.comparisons)]
    )


def choose_interval_name(a: Analysis) -> str:
    return "95 % interval" if a.interims is None else "repeated 95 % interval"


def _explain(a: Analysis, index: int) -> str:
    """Beside a verdict: the look it is of, where looks were planned, and that the arm was still learning, where its
    runs show it."""
    c = a.comparisons[index].comparison
    look = sections_differences.explain_look(a, index)
    found = next((x for x in a.still_learning if (x.arm, x.baseline) == (c.arm, c.baseline)), None)
    if found is None:
        return look
    losses = [format_number(loss, 2) for loss in (found.loss, found.baseline_loss)]
    learning = (
        f"{found.arm} was still learning: its loss on unmixed training images was {losses[0]}, the baseline's "
        f"{losses[1]}."
    )
    return f"{look} {learning}".lstrip()


def _list_remarks(a: Analysis) -> tuple[str, ...]:
    judged = (*(c.comparison.judgement for c in a.comparisons), *(effect.judgement for effect in a.effects))
    undecided = any(names_more_seeds(judgement) for judgement in judged)
    limits = f"What this setting cannot show: {a.spec.limits}" if a.spec.limits else ""
    looks = sections_differences.format_state(a)
    return tuple(text for text in (limits, LOOKING_AGAIN if undecided else "", looks) if text)


def _list_troubles(a: Analysis) -> tuple[str, ...]:
    needed = a.interims.needed if a.interims else dict.fromkeys(a.spec.arms, a.spec.seeds)
    planned = sum(len(seeds) for seeds in needed.values())
    troubles: list[str] = []
    if a.missing:
        troubles.append(f"{len(a.missing)} of {format_count(planned, 'run')} missing")
    if a.failed:
        troubles.append(f"{len(a.failed)} failed")
    if a.mixed or a.numerics:
        troubles.append("numerics mixed")
    if a.sources:
        troubles.append("sources mixed")
    return tuple(troubles)


def _list_facts(a: Analysis, unit: Unit) -> tuple[tuple[str, str], ...]:
    spec = a.spec
    steps = sorted({row.steps for row in a.rows})
    split, _, name = spec.metric.partition("/")
    # other evaluators may take a part of the split, which rows do not say
    sizes = sorted({row.sizes[split] for row in a.rows if split in row.sizes and name in _OF_ALL_IMAGES})
    of = f" ({format_list(f'{size:,}' for size in sizes)} images)" if sizes else ""
    facts = [
        ("Setting", spec.setting),
        ("Metric", f"{spec.metric} at the last step, {'higher' if spec.higher_is_better else 'lower'} is better{of}"),
        ("Smallest effect of interest", unit.size(spec.margin) if spec.margin else "none stated"),
        ("Secondary metrics", f"{len(spec.also)}, a family of their own" if spec.also else ""),
        ("Arms and seeds", _format_size(a)),
        ("Steps", format_list(f"{n:,}" for n in steps)),
        ("Settings", spec.settings),
        ("Noise floor", sections_noise.describe_noise(a.noise, unit) if a.noise else ""),
        ("Tuned", sections_tuning.describe_tuned(a.tuning) if a.tuning else ""),
        *((name, next(iter(texts))) for name, texts in a.notes.items() if len(texts) == 1),
    ]
    return tuple((name, text) for name, text in facts if text)


def _format_size(a: Analysis) -> str:
    spec = a.spec
    if spec.sequential is not None:
        return f"{len(spec.arms)} × up to {spec.sequential.most}, stopping where it is decided"
    return f"{len(spec.arms)} × {len(spec.seeds)}" if spec.seeds else f"{len(spec.arms)} arms"


def _list_cautions(a: Analysis) -> tuple[str, ...]:
    """The troubles in detail: which runs, and what they mean for the numbers."""
    cautions: list[str] = []
    if a.missing:
        cautions.append(
            f"Missing: {format_list(a.missing)}. They take their pairs along; the numbers are of the runs that are "
            "there."
        )
    if a.failed:
        cautions.append(
            f"Failed: {_format_failures(a.failed)}. If an arm fails because it is unstable, what is left flatters it."
        )
    if a.mixed:
        cautions.append(
            f"Numerically mixed within a run, resumed under another fingerprint: {format_list(a.mixed)}. Such a run is "
            "not promised to repeat bit for bit."
        )
    for key, values in a.numerics.items():
        cautions.append(
            f"Numerically mixed: runs differ in {key} ({format_list(values, 4)}). Each repeats bit for bit where it "
            "was made; a difference between arms may hold a trace of it."
        )
    for name, versions in a.sources.items():
        told = "; ".join(f"{version or 'not on record'}: {format_list(c)}" for version, c in versions.items())
        cautions.append(
            f"Rows were made by different versions of your package {name}: {told}. A difference between arms may come "
            "from an edit; --repeat makes all rows anew."
        )
    if a.beside.other_row:
        cautions.append(
            f"Measured on other results than those of the row, and left out: {format_list(a.beside.other_row)}. The "
            "run was trained anew; paribus study measure measures it again."
        )
    if a.beside.several:
        cautions.append(
            f"Measured on more than one set of weights, and left out: {format_list(a.beside.several)}. Take the lines "
            "of the wrong ones out of measures.jsonl."
        )
    for name, texts in a.notes.items():
        if len(texts) > 1:
            told = "; ".join(f"{format_list(cells)}: {text}" for text, cells in texts.items())
            cautions.append(f"The numbers of {name} are not of the same, so they do not compare. {told}")
    if a.pictures.other_row:
        cautions.append(explain_other_row(a.pictures))
    if a.beside.mixed:
        cautions.append(
            f"Measured under differing numerics or versions: {format_list(a.beside.mixed, 4)}. A difference between "
            "arms may hold a trace of it."
        )
    return tuple(cautions)


def _format_failures(failed: Mapping[str, str]) -> str:
    """Failed cells, grouped by reason."""
    by_reason: dict[str, list[str]] = {}
    for cell, why in failed.items():
        by_reason.setdefault(why, []).append(cell)
    return "; ".join(f"{format_list(cells)} ({why})" for why, cells in by_reason.items())

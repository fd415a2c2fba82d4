"""From rows to numbers: everything a report says, before a word of it is formatted. A pure function of the question
and the rows, so that the same rows give the same numbers to the last bit, in whatever order they come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paribus.study.analysis.beside import Beside, analyse_beside
from paribus.study.analysis.costs import (
    COSTS,
    Overhead,
    StepSeconds,
    TimeToTarget,
    compute_overhead,
    compute_step_seconds,
    compute_time_to_target,
    summarise_cost,
)
from paribus.study.analysis.curves import Band, Curves, compute_bands, compute_gap, select_curves, split_curve
from paribus.study.analysis.interim import Interims, compare_at_looks, follow_looks
from paribus.study.analysis.learning import UNMIXED_LOSS, StillLearning, find_still_learning
from paribus.study.analysis.noise import NoiseFloor
from paribus.study.analysis.question import AnalysisSpec, find_reference
from paribus.study.analysis.tuning import TuningAnalysis
from paribus.study.looks import RecordedInterim
from paribus.study.measures import Measure
from paribus.study.pictures import Pictures
from paribus.study.rows import Row, package_digests, read_notes
from paribus.study.spec import PaperResult
from paribus.study.stats import (
    ArmSummary,
    Comparison,
    Effect,
    Pairing,
    Robustness,
    SelectionBias,
    Values,
    compare_all,
    factorial_effects,
    pairing,
    robustness,
    selection_bias,
    summarise,
)


@dataclass(frozen=True)
class ComparisonDetails:
    """One comparison with the statistics reported beside its verdict."""

    comparison: Comparison
    pairing: Pairing
    robustness: Robustness


@dataclass(frozen=True)
class Analysis:
    """See the fields' own classes. missing: planned cells without a row; failed: cell -> why, in one line; mixed: cells
    whose segments may differ in the last bits; numerics: what differs between the fingerprints of the runs, key ->
    values. sources: the user's package of which there are several versions -> version, or None where it is not on
    record -> cells. costs: arm -> kind of cost -> summary over its runs. gaps: baseline -> arm -> difference at each
    step. reported: what the paper says, with our estimate of the same difference (None if there are no runs for it).
    still_learning: pairs whose arm ended with a far higher loss on unmixed training images, which `losses` has of each
    arm at the last step. beside: secondary metrics,
    curves and reliability diagrams. interims: the planned looks; None where the number of seeds is fixed.
    noise: the baseline against itself, None where that was not run. tuning: how the arms' settings were chosen, None
    where they were not tuned. targets, target_seconds: of each value, in steps and, where `step_seconds` are known,
    in seconds of training. notes: evaluator -> what it says its numbers are of -> cells. pictures: of samples/.
    """

    spec: AnalysisSpec
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    failed: Mapping[str, str]
    mixed: tuple[str, ...]
    numerics: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, Mapping[str | None, tuple[str, ...]]]
    arms: Mapping[str, ArmSummary]
    comparisons: tuple[ComparisonDetails, ...]
    effects: tuple[Effect, ...]
    targets: tuple[TimeToTarget, ...]
    target_seconds: tuple[TimeToTarget, ...]
    step_seconds: StepSeconds | None
    costs: Mapping[str, Mapping[str, ArmSummary]]
    overheads: tuple[Overhead, ...]
    bias: Mapping[str, SelectionBias]
    curves: Mapping[str, Mapping[str, Band]]
    gaps: Mapping[str, Mapping[str, Band]]
    reported: tuple[tuple[PaperResult, Comparison | None], ...]
    still_learning: tuple[StillLearning, ...]
    losses: Mapping[str, ArmSummary]
    beside: Beside
    interims: Interims | None = None
    noise: NoiseFloor | None = None
    tuning: TuningAnalysis | None = None
    notes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=Pictures)

    @property
    def reference(self) -> str:
        """The arm that most comparisons are made against."""
        return find_reference(self.spec.arms, self.spec.pairs)

    @property
    def is_waiting(self) -> bool:
        """Whether looks are planned and none was made: nothing is known yet, and pages about all studies leave it
        out."""
        return self.interims is not None and not self.interims.made

    def values(self, arm: str) -> Values:
        """seed -> value of the metric at the last step; NaN where the cell failed."""
        return _final_values(self.rows, arm, self.spec.metric)


def analyse(spec: AnalysisSpec, rows: Iterable[Row], measures: Sequence[Measure] = ()) -> Analysis:
    """All numbers of a report. Rows of other arms than those of the spec are left out. measures: of measures.jsonl.
    Raises ConfigError."""
    place = {arm: i for i, arm in enumerate(spec.arms)}
    kept = tuple(sorted((row for row in rows if row.arm in place), key=lambda row: (place[row.arm], row.seed)))
    done = [row for row in kept if row.state == "done"]
    values = {arm: _final_values(kept, arm, spec.metric) for arm in spec.arms}
    losses = {arm: _final_values(kept, arm, UNMIXED_LOSS) for arm in spec.arms}
    curves = {arm: select_curves(done, arm) for arm in spec.arms}
    interims = spec.sequential and follow_looks(values, spec.pairs, spec.rule, spec.sequential, spec.seeds)
    if interims is None:
        compared = compare_all(values, spec.pairs, spec.rule)
    else:
        compared = compare_at_looks(values, spec.pairs, spec.rule, interims)
    needed = interims.needed if interims else dict.fromkeys(spec.arms, spec.seeds)
    cells = {row.cell for row in kept}
    failed = [row for row in kept if row.state != "done"]
    step_seconds = compute_step_seconds(done)
    return Analysis(
        spec=spec,
        rows=kept,
        missing=tuple(c for arm in spec.arms for seed in needed[arm] if (c := f"{arm}/s{seed}") not in cells),
        failed={
            row.cell: _explain_failure(row, spec.metric)
            for row in kept
            if not math.isfinite(_final_value(row, spec.metric))
        },
        mixed=tuple(row.cell for row in kept if row.mixed),
        numerics=_find_numeric_differences(done),
        sources=_find_source_differences(done),
        arms={arm: summarise(values[arm], needed[arm]) for arm in spec.arms},
        comparisons=tuple(_add_details(c, values, spec) for c in compared),
        effects=_compute_effects(spec, values),
        targets=tuple(compute_time_to_target(spec, curves, failed, value) for value in spec.targets),
        target_seconds=tuple(
            compute_time_to_target(spec, curves, failed, value, step_seconds)
            for value in (spec.targets if step_seconds else ())
        ),
        step_seconds=step_seconds,
        costs={arm: {kind: summarise_cost(done, arm, kind) for kind in COSTS} for arm in spec.arms},
        overheads=tuple(compute_overhead(done, pair) for pair in spec.pairs),
        bias={arm: _compute_bias(curves[arm], spec) for arm in spec.arms},
        curves={key: _drop_single_points(compute_bands(curves, key)) for key in _select_curve_keys(spec, curves)},
        gaps={
            baseline: _drop_single_points(
                {arm: compute_gap(curves[arm], curves[baseline], spec.metric) for arm, b in spec.pairs if b == baseline}
            )
            for _, baseline in spec.pairs
        },
        reported=tuple(
            (said, _match_paper_result(said, compared, values, spec)) for said in spec.paper if not said.metric
        ),
        still_learning=tuple(found for pair in spec.pairs if (found := find_still_learning(losses, pair)) is not None),
        losses={arm: summarise(losses[arm], needed[arm]) for arm in spec.arms},
        beside=analyse_beside(spec, kept, measures),
        interims=interims,
        tuning=spec.tuning,
        notes=_collect_notes(done, measures),
    )


def _collect_notes(rows: Sequence[Row], measures: Sequence[Measure]) -> dict[str, dict[str, tuple[str, ...]]]:
    said = [(row.cell, name, text) for row in rows for name, text in row.notes.items()]
    cells = {row.cell for row in rows}
    for one in measures:
        if one.cell in cells:
            said += [(one.cell, name, text) for name, text in read_notes({one.evaluator: one.details}).items()]
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for cell, name, text in said:
        by_text = found.setdefault(name, {})
        by_text[text] = tuple(dict.fromkeys((*by_text.get(text, ()), cell)))
    return dict(sorted(found.items()))


def record_interim(analysis: Analysis) -> RecordedInterim | None:
    """What looks.jsonl keeps of an analysis that is shown."""
    return analysis.interims.record(analysis.spec.pairs) if analysis.interims else None


def _final_value(row: Row, metric: str) -> float:
    return row.metrics.get(metric, math.nan) if row.state == "done" else math.nan


def _final_values(rows: Sequence[Row], arm: str, metric: str) -> Values:
    return {row.seed: _final_value(row, metric) for row in rows if row.arm == arm}


def _explain_failure(row: Row, metric: str) -> str:
    if row.state != "done":
        printable = "".join(c if c.isprintable() else " " for c in row.why)
        return " ".join(printable.split()) or "no reason on record"
    return f"done, but {metric} is {row.metrics[metric]}" if metric in row.metrics else f"done, but has no {metric}"


def _find_numeric_differences(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """What differs in the fingerprints; of the optimizer, in those of one arm, as a study may compare optimizers."""
    keys = sorted({key for row in rows for key in row.fingerprint} - {"packages"})  # told as `sources`
    found: dict[str, set[str]] = {}
    for key in keys:
        values: dict[str, set[str]] = {}
        for row in rows:
            values.setdefault(row.arm if key == "optimizer" else "", set()).add(str(row.fingerprint.get(key)))
        found[key] = set[str]().union(*(those for those in values.values() if len(those) > 1))
    processors = {str(row.hardware["cpu"]) for row in rows if row.hardware.get("cpu") and not row.hardware.get("gpu")}
    if len(processors) > 1:
        found["processor"] = processors
    return {key: tuple(sorted(values)) for key, values in found.items() if values}


def _find_source_differences(rows: Sequence[Row]) -> dict[str, dict[str | None, tuple[str, ...]]]:
    """A row without a version on record counts only where others of its arm have one: not all arms use a package."""
    found: dict[str, dict[str | None, tuple[str, ...]]] = {}
    for name in sorted({name for row in rows for name in package_digests(row)}):
        arms = {row.arm for row in rows if name in package_digests(row)}
        versions: dict[str | None, tuple[str, ...]] = {}
        for row in rows:
            if row.arm in arms:
                version = package_digests(row).get(name)
                versions[version] = (*versions.get(version, ()), row.cell)
        if len(versions) > 1:
            found[name] = versions
    return found


def _add_details(comparison: Comparison, values: Mapping[str, Values], spec: AnalysisSpec) -> ComparisonDetails:
    both = pairing(values[comparison.arm], values[comparison.baseline], higher_is_better=spec.higher_is_better)
    return ComparisonDetails(comparison, both, robustness(comparison, f"{spec.name} {spec.metric}"))


def _compute_effects(spec: AnalysisSpec, values: Mapping[str, Values]) -> tuple[Effect, ...]:
    """Nothing unless the study names its factors; seeds that no arm has yet count as left out."""
    if not spec.factors:
        return ()
    on = {arm: frozenset(factor for factor, arms in spec.factors.items() if arm in arms) for arm in spec.arms}
    planned = {seed: math.nan for seed in spec.seeds}
    return factorial_effects(list(spec.factors), {on[arm]: {**planned, **values[arm]} for arm in spec.arms}, spec.rule)


def _compute_bias(curves: Curves, spec: AnalysisSpec) -> SelectionBias:
    seen = {seed: split_curve(run[spec.metric])[1] for seed, run in curves.items() if len(run.get(spec.metric, [])) > 1}
    return selection_bias(seen, higher_is_better=spec.higher_is_better)


def _drop_single_points(bands: Mapping[str, Band]) -> dict[str, Band]:
    """Without those of a single point, which come from runs evaluated only at the end."""
    return {arm: band for arm, band in bands.items() if len(band.steps) != 1}


def _select_curve_keys(spec: AnalysisSpec, curves: Mapping[str, Curves]) -> list[str]:
    """The metric, the losses (of training, on unmixed training images, on the split that the metric is measured on),
    and the length of weights."""
    split = spec.metric.partition("/")[0]
    wanted = dict.fromkeys((spec.metric, "train/loss", UNMIXED_LOSS, f"{split}/loss", "weights/norm", "weights/step"))
    there = {key for runs in curves.values() for run in runs.values() for key in run}
    return [key for key in wanted if key in there]


def _match_paper_result(
    paper_result: PaperResult, compared: Sequence[Comparison], values: Mapping[str, Values], spec: AnalysisSpec
) -> Comparison | None:
    pair = (paper_result.arm, paper_result.against)
    found = next((c for c in compared if (c.arm, c.baseline) == pair), None)
    found = found or compare_all(values, [pair], spec.rule)[0]
    return found if found.estimate.n else None

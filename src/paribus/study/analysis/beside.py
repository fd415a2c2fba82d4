"""What a study found beside the metric that decides: its secondary metrics, the papers' figures of them, and curves.

A value comes from the row of the run where that has the metric, else from measures.jsonl. All comparisons on all
secondary metrics are one family, apart from the study's own (docs/statistics.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paribus.study.analysis.details import Panel, build_panels
from paribus.study.analysis.question import AnalysisSpec
from paribus.study.measures import Joined, Measure, join_measures
from paribus.study.rows import Row
from paribus.study.spec import PaperResult, SecondaryMetric
from paribus.study.stats import ArmSummary, Comparison, Rule, Values, compare_several, summarise


@dataclass(frozen=True)
class SecondaryResult:
    """One metric of `also`. arms: in the order of display. comparisons: in the order of the study's. measured: how many
    of its values are from measures.jsonl."""

    asked: SecondaryMetric
    arms: Mapping[str, ArmSummary]
    comparisons: tuple[Comparison, ...]
    measured: int

    @property
    def margin(self) -> float:
        return self.asked.smallest_effect or 0.0


@dataclass(frozen=True)
class Beside:
    """reported: what a paper says of a secondary metric, with ours (None if that comparison is not made or has no
    runs). panels: curves and reliability diagrams. measured: cell -> metric -> value of measures.jsonl. other_row,
    several, mixed: as in `Joined`."""

    results: tuple[SecondaryResult, ...] = ()
    reported: tuple[tuple[PaperResult, Comparison | None], ...] = ()
    panels: tuple[Panel, ...] = ()
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    other_row: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()

    def find(self, metric: str) -> SecondaryResult:
        return next(one for one in self.results if one.asked.metric == metric)


def analyse_beside(spec: AnalysisSpec, rows: Sequence[Row], measures: Sequence[Measure]) -> Beside:
    """rows: those of the study's arms, in order."""
    joined = join_measures(rows, measures)
    values = [{arm: _collect(rows, arm, one.metric, joined) for arm in spec.arms} for one in spec.also]
    rules = [Rule(margin=one.smallest_effect or 0.0, higher_is_better=one.higher_is_better) for one in spec.also]
    compared = compare_several(values, spec.pairs, rules)
    results = tuple(
        SecondaryResult(
            one, {arm: summarise(found[arm], spec.seeds) for arm in spec.arms}, made, _count(rows, one, joined)
        )
        for one, found, made in zip(spec.also, values, compared, strict=True)
    )
    by_pair = {(one.asked.metric, c.arm, c.baseline): c for one in results for c in one.comparisons if c.estimate.n}
    return Beside(
        results,
        tuple((said, by_pair.get((said.metric, said.arm, said.against))) for said in spec.paper if said.metric),
        build_panels({arm: _collect_details(rows, arm, joined) for arm in spec.arms}),
        joined.metrics,
        joined.other_row,
        joined.several,
        joined.mixed,
    )


def _collect(rows: Sequence[Row], arm: str, metric: str, joined: Joined) -> Values:
    """seed -> value; NaN where the cell failed, or has not been asked for this metric."""
    return {
        row.seed: row.metrics.get(metric, joined.metrics.get(row.cell, {}).get(metric, math.nan))
        if row.state == "done"
        else math.nan
        for row in rows
        if row.arm == arm
    }


def _collect_details(rows: Sequence[Row], arm: str, joined: Joined) -> dict[int, Mapping[str, Mapping[str, object]]]:
    return {row.seed: joined.details[row.cell] for row in rows if row.arm == arm and row.cell in joined.details}


def _count(rows: Sequence[Row], one: SecondaryMetric, joined: Joined) -> int:
    return sum(
        one.metric not in row.metrics and one.metric in joined.metrics.get(row.cell, {})
        for row in rows
        if row.state == "done"
    )

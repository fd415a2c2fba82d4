"""From rows to numbers: everything a report says, before a word of it is formatted. A pure function of what was asked
and of the rows, so that the same rows give the same numbers to the last bit, in whatever order they come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paribus.study.analysis.costs import COSTS, Overhead, Target, cost_of, overhead_of, target_of
from paribus.study.analysis.curves import Band, Curves, bands, gaps, points, runs_of
from paribus.study.analysis.question import Asked
from paribus.study.rows import Row
from paribus.study.spec import Reported
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
class Compared:
    """One comparison with what stands beside its verdict."""

    comparison: Comparison
    pairing: Pairing
    robustness: Robustness


@dataclass(frozen=True)
class Analysis:
    """See the fields' own classes. missing: planned cells without a row; failed: cell -> why, in one line; mixed: cells
    whose segments may differ in the last bits; numerics: what differs between the fingerprints of the runs, key ->
    values. costs: arm -> kind of cost -> summary over its runs. gaps: baseline -> arm ->
    difference at each step.
    reported: what the paper says, with our estimate of the same difference (None if there are no runs for it).
    """

    asked: Asked
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    failed: Mapping[str, str]
    mixed: tuple[str, ...]
    numerics: Mapping[str, tuple[str, ...]]
    arms: Mapping[str, ArmSummary]
    comparisons: tuple[Compared, ...]
    effects: tuple[Effect, ...]
    targets: tuple[Target, ...]
    costs: Mapping[str, Mapping[str, ArmSummary]]
    overheads: tuple[Overhead, ...]
    bias: Mapping[str, SelectionBias]
    curves: Mapping[str, Mapping[str, Band]]
    gaps: Mapping[str, Mapping[str, Band]]
    reported: tuple[tuple[Reported, Comparison | None], ...]

    @property
    def reference(self) -> str:
        """The arm that most comparisons are made against."""
        against = [baseline for _, baseline in self.asked.pairs]
        return max(self.asked.arms, key=against.count)

    def values(self, arm: str) -> Values:
        """seed -> value of the metric at the last step; NaN where the cell failed."""
        return _values(self.rows, arm, self.asked)


def analysed(asked: Asked, rows: Iterable[Row]) -> Analysis:
    """All numbers of a report. Rows of arms that are not asked for are left out. Raises ConfigError."""
    place = {arm: i for i, arm in enumerate(asked.arms)}
    kept = tuple(sorted((row for row in rows if row.arm in place), key=lambda row: (place[row.arm], row.seed)))
    done = [row for row in kept if row.state == "done"]
    values = {arm: _values(kept, arm, asked) for arm in asked.arms}
    curves = {arm: runs_of(done, arm) for arm in asked.arms}
    compared = compare_all(values, asked.pairs, asked.rule)
    cells = {row.cell for row in kept}
    return Analysis(
        asked=asked,
        rows=kept,
        missing=tuple(c for arm in asked.arms for seed in asked.seeds if (c := f"{arm}/s{seed}") not in cells),
        failed={row.cell: _why(row, asked.metric) for row in kept if not math.isfinite(_value(row, asked.metric))},
        mixed=tuple(row.cell for row in kept if row.mixed),
        numerics=_numerics(done),
        arms={arm: summarise(values[arm], asked.seeds) for arm in asked.arms},
        comparisons=tuple(_beside(c, values, asked) for c in compared),
        effects=_effects(asked, values),
        targets=tuple(
            target_of(asked, curves, [row for row in kept if row.state != "done"], value) for value in asked.targets
        ),
        costs={arm: {kind: cost_of(done, arm, kind) for kind in COSTS} for arm in asked.arms},
        overheads=tuple(overhead_of(done, pair) for pair in asked.pairs),
        bias={arm: _bias(curves[arm], asked) for arm in asked.arms},
        curves={key: _drawn(bands(curves, key)) for key in _plotted(asked, curves)},
        gaps={
            baseline: _drawn(
                {arm: gaps(curves[arm], curves[baseline], asked.metric) for arm, b in asked.pairs if b == baseline}
            )
            for _, baseline in asked.pairs
        },
        reported=tuple((said, _same(said, compared, values, asked)) for said in asked.paper),
    )


def _value(row: Row, metric: str) -> float:
    return row.metrics.get(metric, math.nan) if row.state == "done" else math.nan


def _values(rows: Sequence[Row], arm: str, asked: Asked) -> Values:
    return {row.seed: _value(row, asked.metric) for row in rows if row.arm == arm}


def _why(row: Row, metric: str) -> str:
    if row.state != "done":
        printable = "".join(c if c.isprintable() else " " for c in row.why)
        return " ".join(printable.split()) or "no reason on record"
    return f"done, but {metric} is {row.metrics[metric]}" if metric in row.metrics else f"done, but has no {metric}"


def _numerics(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """What differs in the fingerprints; of the optimizer, in those of one arm, as arms may be there to compare it."""
    keys = sorted({key for row in rows for key in row.fingerprint})
    found: dict[str, set[str]] = {}
    for key in keys:
        values: dict[str, set[str]] = {}
        for row in rows:
            values.setdefault(row.arm if key == "optimizer" else "", set()).add(str(row.fingerprint.get(key)))
        found[key] = set[str]().union(*(those for those in values.values() if len(those) > 1))
    return {key: tuple(sorted(values)) for key, values in found.items() if values}


def _beside(comparison: Comparison, values: Mapping[str, Values], asked: Asked) -> Compared:
    both = pairing(values[comparison.arm], values[comparison.baseline], higher_is_better=asked.higher_is_better)
    return Compared(comparison, both, robustness(comparison, f"{asked.name} {asked.metric}"))


def _effects(asked: Asked, values: Mapping[str, Values]) -> tuple[Effect, ...]:
    """Nothing unless the study names its factors; seeds that no arm has yet count as left out."""
    if not asked.factors:
        return ()
    on = {arm: frozenset(factor for factor, arms in asked.factors.items() if arm in arms) for arm in asked.arms}
    planned = {seed: math.nan for seed in asked.seeds}
    return factorial_effects(
        list(asked.factors), {on[arm]: {**planned, **values[arm]} for arm in asked.arms}, asked.rule
    )


def _bias(curves: Curves, asked: Asked) -> SelectionBias:
    seen = {seed: points(run[asked.metric])[1] for seed, run in curves.items() if len(run.get(asked.metric, [])) > 1}
    return selection_bias(seen, higher_is_better=asked.higher_is_better)


def _drawn(bands: Mapping[str, Band]) -> dict[str, Band]:
    """Without those of a single point, as runs have that were evaluated at the end alone."""
    return {arm: band for arm, band in bands.items() if len(band.steps) != 1}


def _plotted(asked: Asked, curves: Mapping[str, Curves]) -> list[str]:
    """The metric, the losses of training and of the split that the metric is measured on, and the length of weights."""
    split = asked.metric.partition("/")[0]
    wanted = dict.fromkeys((asked.metric, "train/loss", f"{split}/loss", "weights/norm", "weights/step"))
    there = {key for runs in curves.values() for run in runs.values() for key in run}
    return [key for key in wanted if key in there]


def _same(
    said: Reported, compared: Sequence[Comparison], values: Mapping[str, Values], asked: Asked
) -> Comparison | None:
    pair = (said.arm, said.against)
    found = next((c for c in compared if (c.arm, c.baseline) == pair), None)
    found = found or compare_all(values, [pair], asked.rule)[0]
    return found if found.estimate.n else None

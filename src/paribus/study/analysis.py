"""From rows to numbers: everything a report says, before a word of it is formatted. A pure function of what was asked
and of the rows, so that the same rows give the same numbers to the last bit, in whatever order they come.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paribus.study.curves import Band, Curves, bands, gaps, runs_of
from paribus.study.record import Row
from paribus.study.spec import Reported, Study, Tuned
from paribus.study.stats import (
    ArmSummary,
    ArrivalSummary,
    Comparison,
    Effect,
    Pairing,
    Robustness,
    Rule,
    SelectionBias,
    TimeComparison,
    Values,
    common_horizon,
    compare_all,
    compare_times,
    factorial,
    first_reach,
    pairing,
    robustness,
    selection_bias,
    summarise,
    summarise_arrivals,
)

COSTS = ("train_s", "eval_s", "samples_per_sec", "peak_gb", "parameters", "macs")
Pair = tuple[str, str]  # (arm, what it is compared with)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is analysed, whether a study.yaml says it or a command line.

    arms: in the order of display, each with its overrides. pairs: the family of comparisons. margin: 0 if none was
    stated. seeds: the planned ones, of every arm; empty for ad-hoc runs. again: commands that make it once more.
    """

    name: str
    question: str
    arms: Mapping[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    metric: str
    higher_is_better: bool = True
    margin: float = 0.0
    seeds: tuple[int, ...] = ()
    factors: Mapping[str, tuple[str, ...]]
    targets: tuple[float, ...] = ()
    settings: str = ""
    paper: tuple[Reported, ...] = ()
    recipe: tuple[str, ...] = ()
    again: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        return Rule(margin=self.margin, higher_is_better=self.higher_is_better)


def asked_by(study: Study) -> Asked:
    """A study's own question. Its commands name the folder from its parent on: not where it lies on this machine."""
    spec, folder = study.spec, study.folder.absolute()
    place = f"{folder.parent.name}/{folder.name}"
    return Asked(
        name=study.name,
        question=spec.question,
        arms=spec.arms,
        pairs=tuple((pair.arm, pair.against) for pair in spec.comparisons),
        metric=spec.metric,
        higher_is_better=spec.higher_is_better,
        margin=spec.smallest_effect,
        seeds=spec.seeds,
        factors=spec.factors,
        targets=spec.targets,
        settings=f"tuned: {spec.settings.tuned}" if isinstance(spec.settings, Tuned) else "as in the paper",
        paper=spec.paper,
        recipe=spec.recipe,
        again=(f"paribus study run {place}", f"paribus study report {place}"),
    )


@dataclass(frozen=True)
class Compared:
    """One comparison with what stands beside its verdict."""

    comparison: Comparison
    pairing: Pairing
    robustness: Robustness


@dataclass(frozen=True)
class Target:
    """Time, in steps, until the metric reaches a value. arms, comparisons: in the order of what was asked."""

    value: float
    horizon: float
    arms: Mapping[str, ArrivalSummary]
    comparisons: tuple[TimeComparison, ...]


@dataclass(frozen=True)
class Overhead:
    """Training time of an arm over that of its baseline on the same seeds: geometric mean and 95 % t interval of the
    ratio, from logarithms; NaN where it is not known."""

    arm: str
    baseline: str
    n: int
    paired: bool
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Analysis:
    """See the fields' own classes. missing: planned cells without a row; failed: cell -> why, in one line; mixed: cells
    whose segments may differ in the last bits; numerics: what differs between the fingerprints of the runs, key ->
    values. costs: arm -> kind of cost -> summary over its runs. gaps: (arm, baseline) -> difference at each step.
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
    gaps: Mapping[Pair, Band]
    reported: tuple[tuple[Reported, Comparison | None], ...]

    @property
    def reference(self) -> str:
        """The arm that most comparisons are made against."""
        against = [baseline for _, baseline in self.asked.pairs]
        return max(self.asked.arms, key=against.count)


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
        targets=tuple(_target(asked, curves, value) for value in asked.targets),
        costs={arm: {kind: _cost(done, arm, kind) for kind in COSTS} for arm in asked.arms},
        overheads=tuple(_overhead(done, pair) for pair in asked.pairs),
        bias={arm: _bias(curves[arm], asked) for arm in asked.arms},
        curves={key: bands(curves, key) for key in _plotted(asked, curves)},
        gaps={pair: gaps(curves[pair[0]], curves[pair[1]], asked.metric) for pair in asked.pairs},
        reported=tuple((said, _same(said, compared, values, asked)) for said in asked.paper),
    )


def _value(row: Row, metric: str) -> float:
    return row.metrics.get(metric, math.nan) if row.state == "done" else math.nan


def _values(rows: Sequence[Row], arm: str, asked: Asked) -> Values:
    return {row.seed: _value(row, asked.metric) for row in rows if row.arm == arm}


def _why(row: Row, metric: str) -> str:
    if row.state != "done":
        return row.why or "no reason on record"
    return f"done, but {metric} is {row.metrics[metric]}" if metric in row.metrics else f"done, but has no {metric}"


def _numerics(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    keys = sorted({key for row in rows for key in row.fingerprint})
    found = {key: tuple(sorted({str(row.fingerprint.get(key)) for row in rows})) for key in keys}
    return {key: values for key, values in found.items() if len(values) > 1}


def _beside(comparison: Comparison, values: Mapping[str, Values], asked: Asked) -> Compared:
    both = pairing(values[comparison.arm], values[comparison.baseline], higher_is_better=asked.higher_is_better)
    return Compared(comparison, both, robustness(comparison, f"{asked.name} {asked.metric}"))


def _effects(asked: Asked, values: Mapping[str, Values]) -> tuple[Effect, ...]:
    """Nothing unless the study names its factors; seeds that no arm has yet count as left out."""
    if not asked.factors:
        return ()
    on = {arm: frozenset(factor for factor, arms in asked.factors.items() if arm in arms) for arm in asked.arms}
    planned = {seed: math.nan for seed in asked.seeds}
    return factorial(list(asked.factors), {on[arm]: {**planned, **values[arm]} for arm in asked.arms}, asked.rule)


def _target(asked: Asked, curves: Mapping[str, Curves], value: float) -> Target:
    arrivals = {
        arm: {
            seed: first_reach(*_points(run.get(asked.metric, [])), value, higher_is_better=asked.higher_is_better)
            for seed, run in runs.items()
        }
        for arm, runs in curves.items()
    }
    horizon = common_horizon(arrivals)
    return Target(
        value,
        horizon,
        {arm: summarise_arrivals(runs, horizon) for arm, runs in arrivals.items()},
        compare_times(arrivals, asked.pairs, replace(asked.rule, margin=0.0)),
    )


def _points(curve: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in curve], [point[1] for point in curve]


def _cost(rows: Sequence[Row], arm: str, kind: str) -> ArmSummary:
    known = {row.seed: row.cost.get(kind) for row in rows if row.arm == arm}
    return summarise({seed: math.nan if cost is None else float(cost) for seed, cost in known.items()})


def _overhead(rows: Sequence[Row], pair: Pair) -> Overhead:
    logs = {
        name: {
            row.seed: math.log(seconds)
            for row in rows
            if row.arm == name and (seconds := row.cost.get("train_s")) is not None and seconds > 0
        }
        for name in pair
    }
    found = compare_all(logs, [pair], Rule())[0]
    e = found.estimate
    return Overhead(*pair, e.n, found.paired, math.exp(e.mean), math.exp(e.low), math.exp(e.high))


def _bias(curves: Curves, asked: Asked) -> SelectionBias:
    seen = {seed: _points(run.get(asked.metric, []))[1] for seed, run in curves.items()}
    return selection_bias(seen, higher_is_better=asked.higher_is_better)


def _plotted(asked: Asked, curves: Mapping[str, Curves]) -> list[str]:
    """The metric, and the losses: of training and of the split that the metric is measured on."""
    split = asked.metric.partition("/")[0]
    wanted = dict.fromkeys((asked.metric, "train/loss", f"{split}/loss"))
    there = {key for runs in curves.values() for run in runs.values() for key in run}
    return [key for key in wanted if key in there]


def _same(
    said: Reported, compared: Sequence[Comparison], values: Mapping[str, Values], asked: Asked
) -> Comparison | None:
    pair = (said.arm, said.against)
    found = next((c for c in compared if (c.arm, c.baseline) == pair), None)
    found = found or compare_all(values, [pair], asked.rule)[0]
    return found if found.estimate.n else None

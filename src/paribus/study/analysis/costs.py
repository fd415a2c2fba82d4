"""The cost of a study's runs: time, memory, operations; steps to a target; training time relative to the baseline's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from paribus.study.analysis.curves import Curves, split_curve
from paribus.study.analysis.question import AnalysisSpec, ArmPair
from paribus.study.rows import Row
from paribus.study.stats import (
    ArmSummary,
    Arrival,
    ArrivalSummary,
    Rule,
    TimeComparison,
    common_horizon,
    compare_all,
    compare_times,
    find_arrival,
    summarise,
    summarise_arrivals,
)

MIN_NEIGHBOURS = 2  # pairs of runs beside each other from which on a time ratio is from such pairs alone
COSTS = ("train_s", "eval_s", "samples_per_sec", "peak_gb", "parameters", "macs")


@dataclass(frozen=True)
class TimeToTarget:
    """Time until the metric reaches a value. arms, comparisons: in the order of the spec. unit: steps, or seconds of
    training."""

    value: float
    horizon: float
    arms: Mapping[str, ArrivalSummary]
    comparisons: tuple[TimeComparison, ...]
    unit: str = "steps"


@dataclass(frozen=True)
class Overhead:
    """Training time of an arm over that of its baseline on the same seeds: geometric mean and 95 % t interval of the
    ratio, from logarithms; NaN where unknown.

    pairs: seeds with the times of both. neighbours: those of them whose two runs ran beside each other; where there are
    at least MIN_NEIGHBOURS, the ratio is theirs alone. n: what it is from: pairs, or the runs of the smaller arm.
    """

    arm: str
    baseline: str
    n: int
    paired: bool
    ratio: float
    low: float
    high: float
    pairs: int = 0
    neighbours: int = 0


StepSeconds = Mapping[str, Mapping[int, float]]  # arm -> seed -> seconds of training a step


def compute_time_to_target(
    spec: AnalysisSpec,
    curves: Mapping[str, Curves],
    failed: Sequence[Row],
    value: float,
    step_seconds: StepSeconds | None = None,
) -> TimeToTarget:
    """failed: runs that ended early; whether they would have arrived is not known. step_seconds: of all other runs, to
    count in seconds; None: in steps."""
    arrivals: dict[str, dict[int, Arrival]] = {}
    for arm, runs in curves.items():
        arrivals[arm] = {}
        for seed, run in runs.items():
            steps, values = split_curve(run.get(spec.metric, []))
            times = steps if step_seconds is None else [step * step_seconds[arm][seed] for step in steps]
            arrivals[arm][seed] = find_arrival(times, values, value, higher_is_better=spec.higher_is_better)
    for row in failed:
        arrivals[row.arm][row.seed] = Arrival(math.nan, False)
    horizon = common_horizon(arrivals)
    return TimeToTarget(
        value,
        horizon,
        {arm: summarise_arrivals(runs, horizon) for arm, runs in arrivals.items()},
        compare_times(arrivals, spec.pairs, replace(spec.rule, margin=0.0)),
        "steps" if step_seconds is None else "seconds",
    )


def compute_step_seconds(done: Sequence[Row]) -> StepSeconds | None:
    """Each run's own, over all its steps: the speed of training hardly changes within a run. None where a run's time is
    not known, and where runs are of several machines, whose seconds are not the same."""
    if not done or not all(row.steps and _train_seconds(row) for row in done):
        return None
    if any(row.hardware != done[0].hardware for row in done):
        return None
    found: dict[str, dict[int, float]] = {}
    for row in done:
        found.setdefault(row.arm, {})[row.seed] = _train_seconds(row) / row.steps
    return found


def summarise_cost(rows: Sequence[Row], arm: str, kind: str) -> ArmSummary:
    known = {row.seed: row.cost.get(kind) for row in rows if row.arm == arm}
    return summarise({seed: math.nan if cost is None else float(cost) for seed, cost in known.items()})


def compute_overhead(rows: Sequence[Row], pair: ArmPair) -> Overhead:
    timed = {name: {row.seed: row for row in rows if row.arm == name and _train_seconds(row) > 0} for name in pair}
    arm, baseline = (timed[name] for name in pair)
    shared = arm.keys() & baseline.keys()
    neighbours = {seed for seed in shared if are_neighbours(arm[seed], baseline[seed])}
    chosen = neighbours if len(neighbours) >= MIN_NEIGHBOURS else arm.keys() | baseline.keys()
    logs = {
        name: {seed: math.log(_train_seconds(row)) for seed, row in runs.items() if seed in chosen}
        for name, runs in timed.items()
    }
    found = compare_all(logs, [pair], Rule())[0]
    e = found.estimate
    ratio, low, high = (math.exp(value) for value in (e.mean, e.low, e.high))
    return Overhead(*pair, e.n, found.paired, ratio, low, high, len(shared), len(neighbours))


def are_neighbours(a: Row, b: Row) -> bool:
    """Whether two runs are known to have run beside each other, under much the same load: on the same hardware, without
    an interruption, and no further apart in time than the longer of the two took."""
    one, other = _find_span(a), _find_span(b)
    if one is None or other is None or a.hardware != b.hardware:
        return False
    gap = max(one[0], other[0]) - min(one[1], other[1])  # negative where they overlap
    return gap <= max(end - begin for begin, end in (one, other))


def _find_span(row: Row) -> tuple[float, float] | None:
    """When a run began and ended, as UNIX time; None where that is not known."""
    seconds = _train_seconds(row) + (row.cost.get("eval_s") or 0.0)
    if row.started is None or row.segments != 1 or seconds <= 0:
        return None
    try:
        begin = datetime.fromisoformat(row.started).timestamp()
    except ValueError:
        return None
    return begin, begin + seconds


def _train_seconds(row: Row) -> float:
    return row.cost.get("train_s") or 0.0

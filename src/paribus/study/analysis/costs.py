"""The cost of a study's runs: time, memory, operations; steps to a target; training time relative to the baseline's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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

COSTS = ("train_s", "eval_s", "samples_per_sec", "peak_gb", "parameters", "macs")


@dataclass(frozen=True)
class TimeToTarget:
    """Time, in steps, until the metric reaches a value. arms, comparisons: in the order of the spec."""

    value: float
    horizon: float
    arms: Mapping[str, ArrivalSummary]
    comparisons: tuple[TimeComparison, ...]


@dataclass(frozen=True)
class Overhead:
    """Training time of an arm over that of its baseline on the same seeds: geometric mean and 95 % t interval of the
    ratio, from logarithms; NaN where unknown."""

    arm: str
    baseline: str
    n: int
    paired: bool
    ratio: float
    low: float
    high: float


def compute_time_to_target(
    spec: AnalysisSpec, curves: Mapping[str, Curves], failed: Sequence[Row], value: float
) -> TimeToTarget:
    """failed: runs that ended early; whether they would have arrived is not known."""
    arrivals = {
        arm: {
            seed: find_arrival(*split_curve(run.get(spec.metric, [])), value, higher_is_better=spec.higher_is_better)
            for seed, run in runs.items()
        }
        for arm, runs in curves.items()
    }
    for row in failed:
        arrivals[row.arm][row.seed] = Arrival(math.nan, False)
    horizon = common_horizon(arrivals)
    return TimeToTarget(
        value,
        horizon,
        {arm: summarise_arrivals(runs, horizon) for arm, runs in arrivals.items()},
        compare_times(arrivals, spec.pairs, replace(spec.rule, margin=0.0)),
    )


def summarise_cost(rows: Sequence[Row], arm: str, kind: str) -> ArmSummary:
    known = {row.seed: row.cost.get(kind) for row in rows if row.arm == arm}
    return summarise({seed: math.nan if cost is None else float(cost) for seed, cost in known.items()})


def compute_overhead(rows: Sequence[Row], pair: ArmPair) -> Overhead:
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

"""Learning curves over seeds: the mean at each evaluation and how far the seeds scatter."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paribus.study.rows import Row
from paribus.study.stats.estimate import Estimate, mean_and_sd, one_sample

Curves = Mapping[int, Mapping[str, Sequence[Sequence[float]]]]  # seed -> key -> [step, value] at each evaluation


@dataclass(frozen=True, slots=True)
class Band:
    """n runs: at each step their mean, and the band around it. Only steps at which every one of them was evaluated:
    a mean over a changing set of runs would jump."""

    n: int
    steps: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def select_curves(rows: Iterable[Row], arm: str) -> Curves:
    return {row.seed: row.curves for row in rows if row.arm == arm}


def compute_bands(arms: Mapping[str, Curves], key: str) -> dict[str, Band]:
    """For each arm that has this curve, mean ± one standard deviation over its runs (no width for a single one)."""
    found: dict[str, Band] = {}
    for arm, runs in arms.items():
        curves = [_drop_nonfinite(run[key]) for run in runs.values() if key in run]
        steps = _shared_steps(curves)
        if steps:
            spread = [mean_and_sd([curve[step] for curve in curves]) for step in steps]
            sds = [0.0 if math.isnan(sd) else sd for _, sd in spread]
            means = [mean for mean, _ in spread]
            low, high = ([m + sign * sd for m, sd in zip(means, sds, strict=True)] for sign in (-1, 1))
            found[arm] = Band(len(curves), tuple(steps), tuple(means), tuple(low), tuple(high))
    return found


def compute_gap(arm: Curves, baseline: Curves, key: str) -> Band:
    """The mean paired difference arm - baseline at each step, with its 95 % t interval (the mean itself where there is
    none). Over the seeds that both have; one point in time each, and not adjusted for there being many."""
    seeds = sorted(seed for seed in arm.keys() & baseline.keys() if key in arm[seed] and key in baseline[seed])
    curves = [(_drop_nonfinite(arm[seed][key]), _drop_nonfinite(baseline[seed][key])) for seed in seeds]
    steps = _shared_steps([curve for both in curves for curve in both])
    found = [one_sample([a[step] - b[step] for a, b in curves]) for step in steps]
    return Band(
        len(seeds),
        tuple(steps),
        tuple(e.mean for e in found),
        tuple(_or_use_mean(e, e.low) for e in found),
        tuple(_or_use_mean(e, e.high) for e in found),
    )


def _or_use_mean(estimate: Estimate, end: float) -> float:
    return estimate.mean if math.isnan(end) else end


def _drop_nonfinite(curve: Sequence[Sequence[float]]) -> dict[float, float]:
    return {step: value for step, value in curve if math.isfinite(value)}


def _shared_steps(curves: Sequence[Mapping[float, float]]) -> list[float]:
    return sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []


def split_curve(curve: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in curve], [point[1] for point in curve]

"""What a study's tuning found, from its plan and rows: trials, the choice, edges, cost, and the best of fewer trials.

Only rows of tune/ are read here, on the split that was tuned on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paribus.study import tuned
from paribus.study.plan import Plan, flatten, require_plan
from paribus.study.rows import Row
from paribus.study.spec import Study
from paribus.study.tuned import TrialResult
from paribus.study.tuning.choice import ChosenSetting, expect_best
from paribus.study.tuning.space import Axis, Space, find_edge
from paribus.study.tuning.trials import DEFAULT, name_cell_arm


@dataclass(frozen=True)
class TrialSummary:
    """settings: the values of the keys that are searched; of the default as far as its recipe has these keys. median:
    over the tuning seeds, with failed runs as the worst; NaN where that is infinite."""

    name: str
    settings: Mapping[str, object]
    values: tuple[float, ...]
    median: float


@dataclass(frozen=True)
class EdgeWarning:
    """The chosen value of a key lies at an end of what was tried: smallest or largest."""

    key: str
    value: object
    end: str


@dataclass(frozen=True)
class TunedArm:
    """trials: the default settings first. gap: the chosen median minus the default's. failed: cell -> why. minutes: of
    cores, of this arm's own runs; unknown: how many of them have no time on record. attempts: the expected best median
    of 1, 2, ... trials, the default left out, and a trial without a median as the worst that there is."""

    space: Space
    trials: tuple[TrialSummary, ...]
    chosen: ChosenSetting
    default: float
    gap: float
    edges: tuple[EdgeWarning, ...]
    failed: Mapping[str, str]
    runs: int
    minutes: float
    unknown: int
    attempts: tuple[float, ...]


@dataclass(frozen=True)
class TuningAnalysis:
    """trials: of each arm, beside the default settings."""

    metric: str
    higher_is_better: bool
    trials: int
    seeds: tuple[int, ...]
    threads: int
    arms: Mapping[str, TunedArm]

    @property
    def axes(self) -> dict[str, Axis]:
        """Every key that some arm searched, with its first range."""
        found: dict[str, Axis] = {}
        for arm in self.arms.values():
            for key, axis in arm.space.items():
                found.setdefault(key, axis)
        return found


def analyse_tuning(study: Study) -> TuningAnalysis | None:
    """None for a study that does not tune, or has not chosen yet. Raises ConfigError where the rows are not those that
    were chosen by."""
    chosen = tuned.find_chosen(study)
    if chosen is None:
        return None
    tune, rows = tuned.require_tune(study), tuned.read_stage_rows(study)
    tuned.check_stage_rows(study, chosen, rows)
    plan = require_plan(tuned.open_stage(study))
    results = tuned.collect_results(tune, tuned.list_arm_trials(study), plan, rows)
    arms = {arm: _summarise_arm(arm, study, those, chosen.arms[arm], plan, rows) for arm, those in results.items()}
    return TuningAnalysis(tune.metric, tune.higher_is_better, tune.trials, tune.seeds, study.spec.threads, arms)


def _summarise_arm(
    arm: str, study: Study, results: Sequence[TrialResult], chosen: ChosenSetting, plan: Plan, rows: Sequence[Row]
) -> TunedArm:
    tune = tuned.require_tune(study)
    space = tune.spaces[arm]
    trials = tuple(
        TrialSummary(
            result.trial.name,
            result.trial.settings or _read_settings(plan, name_cell_arm(arm, DEFAULT), space),
            result.values,
            result.median if math.isfinite(result.median) else math.nan,
        )
        for result in results
    )
    best = next(trial for trial in trials if trial.name == chosen.trial)
    own = {name_cell_arm(arm, result.trial.name) for result in results} & {result.runs_as for result in results}
    mine = [row for row in rows if row.arm in own]
    seconds = [_sum_seconds(row) for row in mine]
    return TunedArm(
        space=space,
        trials=trials,
        chosen=chosen,
        default=trials[0].median,
        gap=chosen.value - trials[0].median,
        edges=tuple(
            EdgeWarning(key, best.settings[key], end)
            for key, axis in space.items()
            if key in best.settings and (end := find_edge(axis, best.settings[key]))
        ),
        failed={cell: why for result in results for cell, why in result.failed.items()},
        runs=len(mine),
        minutes=sum(s for s in seconds if s is not None) * study.spec.threads / 60,
        unknown=sum(s is None for s in seconds),
        attempts=_expect(trials[1:], tune.higher_is_better),
    )


def _read_settings(plan: Plan, name: str, space: Space) -> dict[str, object]:
    """What an arm's recipe has for the keys that are searched."""
    recipe = flatten(plan.recipes[name])
    return {key: recipe[key] for key in space if key in recipe}


def _sum_seconds(row: Row) -> float | None:
    """Of training and evaluation; None where no clock is on record."""
    known = [s for key in ("train_s", "eval_s") if (s := row.cost.get(key)) is not None]
    return sum(known) if known else None


def _expect(trials: Sequence[TrialSummary], higher_is_better: bool) -> tuple[float, ...]:
    known = [trial.median for trial in trials if math.isfinite(trial.median)]
    if not known:
        return ()
    worst = min(known) if higher_is_better else max(known)
    return expect_best([t.median if math.isfinite(t.median) else worst for t in trials], higher_is_better)

"""The tuning stage of a study: FOLDER/tune/ has a plan and rows of its own; FOLDER/plan.jsonl has what was chosen.

Its arms are the trials of each arm: adamw.default, adamw.t01, ... Those that compute the same, such as a trial that is
the default, share one run: the plan lists all of them with their recipes, and cells for the first of equal ones only.
Nothing here reads the split that the study is judged on: the choice is in the plan before any of its cells runs.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from paribus.core.errors import ConfigError
from paribus.study import rows as rows_file
from paribus.study.looks import LOOKS
from paribus.study.plan import Plan, diff_recipes, read_plan
from paribus.study.rows import Row
from paribus.study.spec import PLAN, RESULTS, TUNE, Study, merge_overrides
from paribus.study.tuning.choice import ChosenSetting, ChosenSettings, find_best, take_median
from paribus.study.tuning.space import TuneSpec
from paribus.study.tuning.trials import TuningTrial, list_trials, name_cell_arm, split_cell_arm


@dataclass(frozen=True)
class TrialResult:
    """settings: key -> value, what the trial sets. values: of the metric, for each tuning seed; NaN where the run
    failed. median: with failed runs as the worst; infinite where they are half or more. failed: cell -> why.
    runs_as: the arm of the stage whose runs these are: its own, or an earlier one that computes the same."""

    trial: TuningTrial
    values: tuple[float, ...]
    median: float
    failed: Mapping[str, str]
    runs_as: str


def require_tune(study: Study) -> TuneSpec:
    """Raises ConfigError for a study that does not tune."""
    if study.spec.tune is None:
        raise ConfigError(f"{study.folder}: has no tuning stage; study.yaml has no tune:")
    return study.spec.tune


def open_stage(study: Study) -> Study:
    """The tuning stage as a study: its own seeds, metric, plan and rows. Its arms are still those of the study."""
    tune = require_tune(study)
    spec = replace(
        study.spec,
        seeds=tune.seeds,
        sequential=None,
        metric=tune.metric,
        higher_is_better=tune.higher_is_better,
        comparisons=(),
        factors={},
        also=(),
        targets=(),
        paper=(),
        tune=None,
    )
    return replace(study, spec=spec, stage=TUNE)


def list_arm_trials(study: Study) -> dict[str, tuple[TuningTrial, ...]]:
    """Arm -> its default settings and its trials. SciPy comes with it."""
    tune = require_tune(study)
    return {arm: list_trials(space, tune.trials) for arm, space in tune.spaces.items()}


def find_owners(plan: Plan) -> dict[str, str]:
    """Arm of the stage -> the first arm with an equal recipe, whose runs are its own too."""
    first: dict[str, str] = {}
    return {arm: first.setdefault(json.dumps(plan.recipes[arm], sort_keys=True), arm) for arm in plan.recipes}


def find_chosen(study: Study) -> ChosenSettings | None:
    """What the frozen plan says was chosen; None before that, and for studies that do not tune."""
    if study.spec.tune is None:
        return None
    plan = read_plan(study.plan_path)
    return None if plan is None else plan.tuned


def apply_chosen(study: Study, chosen: ChosenSettings) -> Study:
    """The study with the chosen settings in its arms."""
    arms = {
        arm: merge_overrides(own, chosen.arms[arm].overrides) if arm in chosen.arms else own
        for arm, own in study.spec.arms.items()
    }
    return replace(study, spec=replace(study.spec, arms=arms))


def collect_results(
    tune: TuneSpec, trials: Mapping[str, Sequence[TuningTrial]], plan: Plan, rows: Iterable[Row]
) -> dict[str, tuple[TrialResult, ...]]:
    """Arm -> what came of each of its trials, in the order of the list. A run without a row counts as failed."""
    owners, by_cell = find_owners(plan), {row.cell: row for row in rows}

    def gather(arm: str, trial: TuningTrial) -> TrialResult:
        owner = owners[name_cell_arm(arm, trial.name)]
        cells = {seed: by_cell.get(f"{owner}/s{seed}") for seed in tune.seeds}
        values = tuple(_read_value(row, tune.metric) for row in cells.values())
        failed = {
            f"{owner}/s{seed}": _explain(row, tune.metric)
            for (seed, row), value in zip(cells.items(), values, strict=True)
            if not math.isfinite(value)
        }
        return TrialResult(trial, values, take_median(values, tune.higher_is_better), failed, owner)

    return {arm: tuple(gather(arm, trial) for trial in those) for arm, those in trials.items()}


def _read_value(row: Row | None, metric: str) -> float:
    value = row.metrics.get(metric, math.nan) if row is not None and row.state == "done" else math.nan
    return value if math.isfinite(value) else math.nan


def _explain(row: Row | None, metric: str) -> str:
    if row is None:
        return "no row"
    return " ".join(row.why.split()) or (f"done, but has no finite {metric}" if row.state == "done" else row.state)


def find_missing(plan: Plan, rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    """Cells of the stage without a row, and those whose row is of a failed run."""
    state = {row.cell: row.state for row in rows}
    missing = [cell.name for cell in plan.cells if cell.name not in state]
    return missing, [cell.name for cell in plan.cells if state.get(cell.name) == "failed"]


def choose(study: Study, plan: Plan, rows: Sequence[Row]) -> ChosenSettings:
    """The best setting of each arm. Raises ConfigError if all of an arm's runs failed."""
    tune, trials = require_tune(study), list_arm_trials(study)
    chosen: dict[str, ChosenSetting] = {}
    for arm, results in collect_results(tune, trials, plan, rows).items():
        by_name = {result.trial.name: result for result in results}
        best = find_best({name: result.median for name, result in by_name.items()}, tune.higher_is_better)
        if best is None:
            raise ConfigError(explain_none(study, arm))
        chosen[arm] = ChosenSetting(best, by_name[best].trial.overrides, by_name[best].median)
    return ChosenSettings(chosen, digest_rows(rows))


def find_hopeless(study: Study, plan: Plan, rows: Sequence[Row]) -> list[str]:
    """Arms of which no setting has a median: half of the runs or more failed in each."""
    results = collect_results(require_tune(study), _name_trials(plan), plan, rows)
    return [arm for arm, those in results.items() if not any(math.isfinite(one.median) for one in those)]


def _name_trials(plan: Plan) -> dict[str, list[TuningTrial]]:
    """The trials of a plan by name alone, which needs no SciPy."""
    found: dict[str, list[TuningTrial]] = {}
    for name in plan.recipes:
        arm, trial = split_cell_arm(name)
        found.setdefault(arm, []).append(TuningTrial(trial, {}))
    return found


def explain_none(study: Study, arm: str) -> str:
    return (
        f"tune: nothing can be chosen for {arm}: in each of its settings half of the runs or more failed; "
        f"{open_stage(study).results_path} and the logs say why"
    )


def digest_rows(rows: Iterable[Row]) -> str:
    """Of what a choice rests on: cell, recipe, state and metrics of each row, to the last bit, in any order."""
    lines = sorted(json.dumps([row.cell, row.id, row.state, dict(sorted(row.metrics.items()))]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


_ADVICE = f"put it back, or move {TUNE}, {PLAN}, {RESULTS} and {LOOKS} away to restart the study"


def check_stage_rows(study: Study, chosen: ChosenSettings, rows: Iterable[Row]) -> None:
    """Raises ConfigError if the rows are not those that were chosen by."""
    if digest_rows(rows) != chosen.digest:
        raise ConfigError(
            f"{open_stage(study).results_path}: has changed since the settings in {study.plan_path} were chosen by it; "
            f"{_ADVICE}"
        )


def check_stage_plan(study: Study, plan: Plan) -> None:
    """Raises ConfigError if the stage is planned differently than it was chosen by. plan: by today's study.yaml."""
    stage = open_stage(study)
    before = read_plan(stage.plan_path, stage.folder)
    if before is None or before.ids() != plan.ids() or before.recipes != plan.recipes:
        raise ConfigError(
            f"{study.folder}: tune: the space, trials, seeds or recipe have changed since the settings in "
            f"{study.plan_path} were chosen{_name_changes(before, plan)}; {_ADVICE}"
        )


def _name_changes(before: Plan | None, plan: Plan) -> str:
    """The first keys that differ, where both have the same trials."""
    if before is None or before.recipes.keys() != plan.recipes.keys():
        return ""
    changes = [
        f"{arm}: {key} was {was}, is {now}"
        for arm in plan.recipes
        for key, was, now in diff_recipes(before.recipes[arm], plan.recipes[arm])
    ]
    return f" ({', '.join(changes[:3])})" if changes else ""


def read_stage_rows(study: Study) -> list[Row]:
    """The recorded rows of the tuning stage."""
    return rows_file.read_rows(open_stage(study).results_path)

"""From a study's `tune:` to the plan of its tuning stage: each trial of each arm composed and checked like any arm.

The stage's runs measure the tuning metric alone: every evaluator is set to its split, and those that do not measure it
are left out, so that no run of the stage reads the split that the study is judged on.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from paribus.core.errors import ConfigError
from paribus.engine.evaluate import WITHOUT_EMA
from paribus.recipe.arms import build_plan, compose_arm
from paribus.recipe.recipe import Recipe
from paribus.study.plan import Plan
from paribus.study.spec import Study, merge_overrides
from paribus.study.tuned import find_owners, list_arm_trials, open_stage
from paribus.study.tuning.trials import TuningTrial, name_cell_arm


def build_tuning_plan(study: Study) -> Plan:
    """The plan of the tuning stage. Raises ConfigError that names the arm and the trial."""
    stage, trials = open_stage(study), list_arm_trials(study)
    measuring: dict[str, tuple[str, ...]] = {}
    for arm in study.spec.arms:
        recipe = compose_arm(study, arm)  # whose errors name the arm
        try:
            measuring[arm] = _measure_alone(recipe, stage.spec.metric, study.spec.metric)
        except ConfigError as error:
            raise ConfigError(f"arms.{arm}: {error}") from error
    arms = {
        name_cell_arm(arm, trial.name): merge_overrides(own, (*trial.overrides, *measuring[arm]))
        for arm, own in study.spec.arms.items()
        for trial in trials[arm]
    }
    plan = build_plan(replace(stage, spec=replace(stage.spec, arms=arms)))
    _check_differences(plan, trials)
    owners = find_owners(plan)
    return replace(plan, cells=tuple(cell for cell in plan.cells if owners[cell.arm] == cell.arm))


def _measure_alone(recipe: Recipe, metric: str, judged: str) -> tuple[str, ...]:
    """Overrides with which a run measures this metric and, as far as evaluators declare it, nothing else. judged: the
    study's own metric. Raises ConfigError where that would read a split that the study is judged on."""
    split = metric.partition("/")[0]
    wanted = {metric, metric.removesuffix(WITHOUT_EMA)}
    on_split = {name: _set_split(one, split, wanted) for name, one in recipe.evaluators.items() if one is not None}
    kept = [name for name, one in on_split.items() if wanted & set(getattr(one, "keys", ()))]
    kept = kept or [name for name, one in on_split.items() if not hasattr(one, "keys")]
    if not kept:
        there = [key for one in on_split.values() for key in getattr(one, "keys", ())]
        raise ConfigError(f"tune.metric: found {metric}; the evaluators measure {', '.join(there) or 'nothing'}")
    read = {split}.union(*(_list_reported(on_split[name]) for name in kept))
    if "minival" in read and getattr(recipe.data, "minival", None) == 0:
        raise ConfigError(
            f"tune.metric: found {metric}, but data.minival is 0, so no images are held out to tune on; add "
            "data.minival=N to recipe, e.g. a tenth of the training images"
        )
    apart = _list_judged(recipe, judged)
    for name in kept:
        if both := sorted(_list_read(on_split[name]) & apart):
            raise ConfigError(
                f"tune.metric: found {metric}; evaluators.{name} reads {both[0]} for it, and the study is judged on "
                f"{both[0]} ({judged}), so choose by another metric"
            )
    return tuple(
        override
        for name, one in on_split.items()
        for override in ([f"evaluators.{name}=null"] if name not in kept else _name_split(name, one))
    )


def _name_split(name: str, evaluator: Any) -> list[str]:
    if hasattr(evaluator, "splits"):
        return [f"evaluators.{name}.splits=[{','.join(evaluator.splits)}]"]
    return [f"evaluators.{name}.split={evaluator.split}"] if hasattr(evaluator, "split") else []


def _set_split(evaluator: Any, split: str, wanted: Collection[str]) -> Any:
    """The evaluator on this split. Where its metric is not named by a split, as ood/auroc: on the images held out."""
    if hasattr(evaluator, "splits"):
        return replace(evaluator, splits=(split,))
    if not hasattr(evaluator, "split"):
        return evaluator
    unnamed = evaluator.split != split and not set(wanted).isdisjoint(getattr(evaluator, "keys", ()))
    try:
        return replace(evaluator, split="minival" if unnamed else split)
    except (ConfigError, ValueError):  # it does not go with its other settings
        return evaluator


def _list_read(evaluator: Any) -> set[str]:
    """The splits that an evaluator says it reads."""
    return _list_reported(evaluator) | set(getattr(evaluator, "needed_splits", {}).values())


def _list_reported(evaluator: Any) -> set[str]:
    """The splits of which an evaluator reports."""
    return {*getattr(evaluator, "splits", ()), *([evaluator.split] if hasattr(evaluator, "split") else ())}


def _list_judged(recipe: Recipe, judged: str) -> set[str]:
    """The split of the study's metric, and those that its evaluator reads, but for what it fits something on."""
    found = {judged.partition("/")[0]}
    for one in recipe.evaluators.values():
        if not {judged, judged.removesuffix(WITHOUT_EMA)}.isdisjoint(getattr(one, "keys", ())):
            found |= _list_reported(one)
    return found


def _check_differences(plan: Plan, trials: Mapping[str, Sequence[TuningTrial]]) -> None:
    """Raises ConfigError for two arms that differ in nothing but what is searched: tuned, they would be one arm."""
    for one, other in combinations(trials, 2):
        names = [trial.name for trial in trials[one][1:]]
        if all(plan.recipes[name_cell_arm(one, name)] == plan.recipes[name_cell_arm(other, name)] for name in names):
            raise ConfigError(
                f"tune: {one} and {other} differ only in keys that are searched for both, so tuning makes them the "
                "same arm; take those keys out of the space, or leave one of the arms out"
            )

"""`paribus study noise`: an arm of a study against itself, as a stage of the study with a plan and rows of its own.

FOLDER/noise/ has plan.jsonl and results.jsonl, as a study has, of one arm on seeds that the study does not use. They
are frozen with the first plan: later seeds are added to them, and another arm needs another folder.
"""

from pathlib import Path

import yaml

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.study import plan as plans
from paribus.study.analysis.noise import NoiseFloor, list_values, measure_noise
from paribus.study.analysis.question import find_reference
from paribus.study.plan import Plan, diff_recipes
from paribus.study.rows import read_rows
from paribus.study.spec import PLAN, RESULTS, SPEC, Study, StudySpec
from paribus.study.stats import Rule
from paribus.study.tuned import apply_chosen, find_chosen
from paribus.study.units import is_accuracy

STAGE = "noise"
DEFAULT_SEEDS, LEAST_SEEDS = 10, 4
_LONE_ARM = "baseline"
_HEAD = """\
# One recipe, which `paribus study noise` runs against itself; the runs are in noise/. With a second arm and
# smallest_effect it is a study, whose reports tell this noise floor: its own seeds are the ones below.
"""


def open_stage(study: Study, arm: str | None = None, seeds: int | None = None) -> Study:
    """The stage of a study in which one arm runs against itself. arm: by default the one that is planned, else the one
    that most comparisons are made against. seeds: how many; by default those planned, else 10. Raises ConfigError."""
    plan = plans.read_plan(_stage_path(study, PLAN), study.folder)
    if (chosen := find_chosen(study)) is not None:  # it was tuned: the arm that is compared has these settings
        study = apply_chosen(study, chosen)
    name = _choose_arm(study, plan, arm)
    spec = study.spec
    alone = StudySpec(
        question=f"How far does {name} differ from itself?",
        recipe=spec.recipe,
        arms={name: spec.arms[name]},
        comparisons=(),
        seeds=choose_seeds(study, plan, seeds),
        metric=spec.metric,
        higher_is_better=spec.higher_is_better,
        smallest_effect=spec.smallest_effect,
        settings=spec.settings,
        threads=spec.threads,
        retries=spec.retries,
        config_dir=spec.config_dir,
    )
    return Study(study.folder, alone, study.config_dir, STAGE)


def _stage_path(study: Study, name: str) -> Path:
    return study.folder / STAGE / name


def _choose_arm(study: Study, plan: Plan | None, asked: str | None) -> str:
    arms = study.spec.arms
    if asked is not None and asked not in arms:
        raise ConfigError(f"--arm: found {asked}; the arms are {', '.join(arms)}")
    planned = next(iter(plan.recipes), None) if plan is not None else None
    if planned is not None and (asked not in (None, planned) or planned not in arms):
        now = f"{asked} is asked for" if planned in arms else f"{study.folder / SPEC} has no such arm any more"
        raise ConfigError(
            f"{study.folder / STAGE}: is of the arm {planned}, and {now}; move that folder away to measure another"
        )
    pairs = [(pair.arm, pair.against) for pair in study.spec.comparisons]
    return asked or planned or find_reference(arms, pairs)


def choose_seeds(study: Study, plan: Plan | None, asked: int | None) -> tuple[int, ...]:
    """The planned seeds, and further ones from above all that the study, its other stages or this plan use."""
    planned = sorted({cell.seed for cell in plan.cells}) if plan is not None else []
    wanted = asked or len(planned) or DEFAULT_SEEDS
    if wanted < LEAST_SEEDS or wanted % 2:
        raise ConfigError(f"--seeds: found {wanted}; should be an even number, at least {LEAST_SEEDS}")
    if wanted < len(planned):
        raise ConfigError(
            f"--seeds: found {wanted}; {_stage_path(study, PLAN)} has {len(planned)}, and leaving some out now would "
            f"be a choice by their results; move {study.folder / STAGE} away to begin anew"
        )
    others = [
        plans.read_plan(path, study.folder) for path in (study.plan_path, *sorted(study.folder.glob(f"*/{PLAN}")))
    ]
    used = {cell.seed for other in others if other is not None for cell in other.cells} | {*study.spec.seeds, *planned}
    used |= set(study.spec.tune.seeds) if study.spec.tune else set[int]()
    first = max(used) + 1
    if first + wanted > 2**63:
        raise ConfigError(f"seeds: found {first - 1}; noise takes seeds above the largest, and there are none")
    return (*planned, *range(first, first + wanted - len(planned)))


def read_noise(study: Study) -> NoiseFloor | None:
    """What is on record of an arm against itself, by the study's metric; None if nothing is. Raises ConfigError."""
    rows = read_rows(_stage_path(study, RESULTS))
    if not rows:
        return None
    plan = plans.read_plan(_stage_path(study, PLAN), study.folder)
    if plan is None or len(plan.recipes) != 1:
        raise ConfigError(
            f"{_stage_path(study, PLAN)}: is missing or has not one arm; restore it from git or a copy, or move "
            f"{study.folder / STAGE} away"
        )
    (arm,) = plan.recipes
    ids, spec = plan.ids(), study.spec
    found = {row.seed: row.metrics for row in rows if ids.get(row.cell) == row.id}
    return measure_noise(
        arm,
        spec.metric,
        list_values(found, spec.metric),
        {cell.seed for cell in plan.cells},
        Rule(margin=spec.smallest_effect, higher_is_better=spec.higher_is_better),
        comparisons=max(1, len(spec.comparisons)),
        planned=len(spec.seeds) if len(spec.arms) > 1 else None,
        changed=_explain_change(study, plan, arm),
    )


def _explain_change(study: Study, noise: Plan, arm: str) -> str:
    """In which keys the arm's recipe, as the study plans it, differs from the one that was run against itself."""
    planned = plans.read_plan(study.plan_path)
    if arm not in study.spec.arms:
        return "the study has no such arm any more"
    if planned is None or arm not in planned.recipes:
        return ""
    changes = diff_recipes(noise.recipes[arm], planned.recipes[arm])
    return format_list((f"{key} was {was}, is {now}" for key, was, now in changes), 4)


def format_lone_study(
    recipe: tuple[str, ...], metric: str, higher_is_better: bool, margin: float | None, config_dir: str | None
) -> str:
    """A study.yaml of one arm. margin: in the metric's unit."""
    values: dict[str, object] = {
        "question": "How far do two runs of this recipe differ that differ in their seed alone?",
        "recipe": list(recipe),
        "arms": {_LONE_ARM: list[str]()},
        "seeds": DEFAULT_SEEDS,
        "metric": metric,
        "higher_is_better": higher_is_better,
        "settings": {"untuned": "those of the recipe"},
    }
    if margin:
        values["smallest_effect"] = f"{margin * 100:.12g}pt" if is_accuracy(metric) else margin
    if config_dir is not None:
        values["config_dir"] = config_dir
    return _HEAD + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)

"""From a study's arms to its cells: each arm composed by Hydra and checked whole, each cell with its recipe's id.

This is the one part of a study that needs Hydra and torch. Any error in an arm, down to an overlay that does not fit or
a metric that nothing measures, is found here, for all arms, before anything runs.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from paribus.core.build import did_you_mean
from paribus.core.content import SUFFIX, iterate_files
from paribus.core.errors import ConfigError
from paribus.core.long_step import long_step
from paribus.engine.evaluate import WITHOUT_EMA
from paribus.recipe.compose import compose_unresolved, explain_hydra_error
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.study.frozen import freeze_spec
from paribus.study.measures import protocol_of
from paribus.study.plan import Cell, Plan
from paribus.study.runner.cells import quote_override
from paribus.study.spec import Study, StudySpec, merge_overrides, parse_key


def build_plan(study: Study) -> Plan:
    """The plan of a study. Raises ConfigError that names the arm."""
    if study.config_folder is not None and not study.config_folder.is_dir():
        raise ConfigError(f"config_dir: found {study.config_dir}; there is no folder {study.config_folder}")
    checksums: dict[Path, str] = {}  # of files that the arms name, each read once
    arms: dict[str, _Arm] = {}
    with long_step(f"composing {study.name}", len(study.spec.arms), "arms") as advance:
        for arm in study.spec.arms:
            arms[arm] = _Arm(study, arm, checksums)
            advance(1)
    return Plan(
        study=study.name,
        recipes={name: arm.computed for name, arm in arms.items()},
        devices={name: arm.recipe.runtime.device for name, arm in arms.items()},
        cells=tuple(arm.cell(seed) for arm in arms.values() for seed in study.spec.seeds),
        frozen=freeze_spec(study.spec),
        config_dir=study.config_dir,
        to_measure=tuple(
            one.metric for one in study.spec.also if any(one.metric not in arm.measured for arm in arms.values())
        ),
        protocols={name: arm.protocols for name, arm in arms.items() if arm.protocols},
    )


def compose_arm(study: Study, name: str) -> Recipe:
    """The recipe of an arm at the study's first seed. Raises ConfigError."""
    return _Arm(study, name, {}).recipe


class _Arm:
    """An arm, composed once: Hydra takes some 85 ms for that, and setting the seed afterwards gives the same."""

    def __init__(self, study: Study, name: str, checksums: dict[Path, str]) -> None:
        spec = study.spec
        self._name = name
        self._checksums = checksums
        self._config_folder = study.config_folder
        self._overrides = merge_overrides(spec.recipe, spec.arms[name])
        settings = [f"runtime.threads={spec.threads}"]
        if not any(parse_key(override) == "tracker" for override in self._overrides):
            settings.append("tracker=events")  # a study's cells are watched by its launcher
        self._overrides = (*self._overrides, *settings)
        try:
            self._cfg, self._technique_names = _compose_config(
                [*self._overrides, f"seed={spec.seeds[0]}"], study.config_folder
            )
            self.recipe = self._recipe(spec.seeds[0])
            self.measured = _list_measured(self.recipe)
            _check_metric(spec, self.recipe, self.measured)
            self.protocols = _list_protocols(spec, self.recipe)
        except ConfigError as error:
            raise ConfigError(f"arms.{name}: {error}") from error
        self._overrides = (*self._overrides, *_wandb_group_overrides(self.recipe, study.name, name))
        self.computed = {key: value for key, value in self.recipe.computed.items() if key != "seed"}

    def cell(self, seed: int) -> Cell:
        recipe = self._recipe(seed)
        overrides = (*self._overrides, *_checksum_overrides(recipe), f"seed={seed}")
        return Cell(
            self._name, seed, recipe.id, recipe.folder.name, overrides, recipe.title, str(self._config_folder or "")
        )

    def _recipe(self, seed: int) -> Recipe:
        cfg = self._cfg.copy()
        cfg.seed = seed
        try:
            return build_recipe(OmegaConf.to_container(cfg, resolve=True), self._technique_names, self._checksums)
        except OmegaConfBaseException as error:  # an interpolation that does not resolve
            raise ConfigError(explain_hydra_error(error, list(self._overrides))) from error


def _compose_config(overrides: list[str], config_folder: Path | None) -> tuple[DictConfig, list[str]]:
    """The config, not resolved yet, and the techniques that were chosen."""
    cfg = compose_unresolved(overrides, config_folder, return_hydra_config=True)
    choice: Any = cfg.hydra.runtime.choices.get("technique")
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, [choice] if isinstance(choice, str) else list(choice or [])


def _list_measured(recipe: Recipe) -> list[str]:
    """The metrics that evaluators declare."""
    known = [key for evaluator in recipe.evaluators.values() for key in getattr(evaluator, "keys", ())]
    if getattr(recipe.ema, "decay", None) is not None:
        known += [key + WITHOUT_EMA for key in known]
    return known


def _list_protocols(spec: StudySpec, recipe: Recipe) -> dict[str, Any]:
    """Evaluator -> its settings, of those that declare a metric of the study and are not part of the recipe's id."""
    asked = {spec.metric, *(one.metric for one in spec.also)}
    asked |= {metric.removesuffix(WITHOUT_EMA) for metric in asked}
    hashed = recipe.computed["evaluators"]
    return {
        name: protocol_of(recipe.config["evaluators"][name])
        for name, evaluator in recipe.evaluators.items()
        if name not in hashed and not asked.isdisjoint(getattr(evaluator, "keys", ()))
    }


def _check_metric(spec: StudySpec, recipe: Recipe, known: list[str]) -> None:
    """Raises ConfigError if no evaluator declares the study's metric, provided that all of them declare what they
    measure."""
    if not all(hasattr(evaluator, "keys") for evaluator in recipe.evaluators.values() if evaluator is not None):
        return
    if spec.metric not in known:
        there = ", ".join(known) or "nothing"
        raise ConfigError(
            f"metric: found {spec.metric}{did_you_mean(spec.metric, known)}; the evaluators measure {there}"
        )


def _checksum_overrides(recipe: Recipe) -> list[str]:
    """Overrides with which a cell refuses another file than the one it was planned with."""
    return [f"++{file.key}{SUFFIX}={quote_override(str(file.checksum))}" for file in iterate_files(recipe)]


def _wandb_group_overrides(recipe: Recipe, study: str, arm: str) -> list[str]:
    """Overrides that group the runs of a study in W&B, where it is on and the recipe sets no group."""
    wandb = recipe.config["tracker"].get("wandb") or {}
    defaults = {"group": study, "job_type": arm}
    return [
        f"tracker.wandb.{key}={quote_override(name)}" for key, name in defaults.items() if wandb.get(key, "") is None
    ]

"""A composed config becomes a checked recipe: one complete run, its id and its folder.

What a user can get wrong in a config is found here, before any data is read or any folder made.
"""

import functools
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from paribus.core.build import build, called_like, checked, describe, schema
from paribus.core.duration import PositiveDuration
from paribus.core.errors import ConfigError
from paribus.core.protocols import (
    Average,
    DataFactory,
    Evaluator,
    MethodFactory,
    ModelFactory,
    Objective,
    OptimizerFactory,
    Schedule,
    TrackerFactory,
    Transform,
    Update,
)
from paribus.engine.runtime import Runtime
from paribus.recipe.identity import computed_part, id_of
from paribus.recipe.overlays import in_effect


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("should be part of a file name: letters, digits, and _ . - after the first")
    return name


@schema
class EveryConfig:
    """Time between two log lines, evaluations, checkpoints; the last step has all three."""

    log: PositiveDuration = "50ba"
    evaluate: PositiveDuration = "1ep"
    checkpoint: PositiveDuration = "1ep"


@schema
class CheckpointsConfig:
    """keep: how many of the newest stay."""

    keep: Annotated[int, Field(ge=1)] = 2


@schema
class PathsConfig:
    """runs: the folder of run folders."""

    runs: str = "runs"


@schema
class Recipe:
    """A complete run. Each field is a key of configs/train.yaml."""

    name: Annotated[str, AfterValidator(_file_name)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    steps: PositiveDuration
    batch_size: Annotated[int, Field(ge=1)]
    data: Annotated[DataFactory, called_like(DataFactory)]
    model: Annotated[ModelFactory, called_like(ModelFactory)]
    method: Annotated[MethodFactory, called_like(MethodFactory)]
    transforms: dict[str, Annotated[Transform | None, called_like(Transform)]]
    objective: Annotated[Objective, called_like(Objective)]
    optimizer: Annotated[OptimizerFactory, called_like(OptimizerFactory)]
    schedule: Annotated[Schedule, called_like(Schedule)]
    update: Annotated[Update, called_like(Update)]
    ema: Annotated[Average, called_like(Average)]
    evaluators: dict[str, Annotated[Evaluator | None, called_like(Evaluator)]]
    tracker: dict[str, Annotated[TrackerFactory | None, called_like(TrackerFactory)]]
    runtime: Runtime
    every: EveryConfig
    checkpoints: CheckpointsConfig
    paths: PathsConfig
    packages: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Plain data that makes this recipe again, every default written out."""
        return {key: value for key, value in describe(self).items() if key != "_target_"}

    @functools.cached_property
    def computed(self) -> dict[str, Any]:
        """What is computed: the config without paths, trackers, device or cadence."""
        return computed_part(self.config)

    @functools.cached_property
    def id(self) -> str:
        """12 hex digits of a hash of what is computed."""
        return id_of(self.computed)

    @property
    def title(self) -> str:
        """What a person calls this run, e.g. quickstart-cutmix-s0."""
        return f"{self.name}-{'+'.join(self.techniques) or 'baseline'}-s{self.seed}"

    @property
    def folder(self) -> Path:
        return Path(self.paths.runs).expanduser() / f"{self.title}-{self.id}"


def recipe_from(cfg: Any, asked: list[str]) -> Recipe:
    """Check a composed config, with the names of the techniques that were asked for. Raises ConfigError."""
    return recipe_again(in_effect(cfg, asked))


def recipe_again(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a run folder's config.yaml."""
    packages = config.get("packages") or ()
    if not isinstance(packages, list | tuple) or not all(isinstance(p, str) for p in packages):
        raise ConfigError(f"packages: found {packages!r}; should be a list of package names")
    for package in packages:
        if not package.isidentifier() or importlib.util.find_spec(package) is None:
            raise ConfigError(f"packages: found {package}; no Python package of that name can be imported")
    if isinstance(config.get("experiment"), Mapping):
        raise ConfigError("experiment: an experiment's file needs `# @package _global_` as its first line")
    values = build(config, packages=tuple(packages))
    for key, cls in {"every": EveryConfig, "checkpoints": CheckpointsConfig, "paths": PathsConfig}.items():
        if isinstance(values.get(key), dict):  # written without a _target_ in train.yaml: there is nothing to choose
            values[key] = checked(cls, values[key], key)
    return checked(Recipe, values)

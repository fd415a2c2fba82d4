"""The composition root: a composed config becomes a checked recipe, and a recipe becomes data, method and evaluators.

Everything a user can get wrong in a config is found here, before any data is read or any folder made.
"""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field

from paribus.cli.overlays import in_effect
from paribus.core.build import build, called_like, checked, describe, schema
from paribus.core.duration import PositiveDuration, in_steps
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import (
    Average,
    Checks,
    DataFactory,
    DataSets,
    Evaluator,
    Loader,
    Method,
    MethodFactory,
    ModelFactory,
    Objective,
    OptimizerFactory,
    Place,
    Schedule,
    Slots,
    TrackerFactory,
    Transform,
    Update,
    Workshop,
)
from paribus.engine import distributed
from paribus.engine.prefetch import Ahead
from paribus.engine.runtime import Runtime, compiled, initialised
from paribus.methods.optimizers import Switched
from paribus.models.groups import decay_groups

PROTOCOL = 1  # of what a recipe means; a change that alters results under an equal config raises it

# Not part of what is computed. Everything else in the config is hashed into the run's id.
_NOT_RECIPE = ("name", "paths", "tracker", "runtime", "every", "checkpoints", "packages", "techniques")
_NOT_RECIPE_OF_DATA = ("root", "download", "pack", "keep", "workers")  # where data lie, and who reads them
# Keys that came later, each with the value that does what was done before: at it the ids stay what they were.
_SINCE_PROTOCOL_1: dict[str, Any] = {"augment": {}}


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
        core = {key: value for key, value in self.config.items() if key not in _NOT_RECIPE}
        core["data"] = {key: value for key, value in core["data"].items() if key not in _NOT_RECIPE_OF_DATA}
        for key, value in _SINCE_PROTOCOL_1.items():
            if core["data"].get(key) == value:
                del core["data"][key]
        # the order of transforms is part of the recipe, the order of all other keys is not
        core["transforms"] = [[key, value] for key, value in core["transforms"].items() if value is not None]
        return {"protocol": PROTOCOL, **core}

    @functools.cached_property
    def id(self) -> str:
        """12 hex digits of a hash of what is computed."""
        text = json.dumps(self.computed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

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


@contextmanager
def building(part: str) -> Iterator[None]:
    """Whatever goes wrong while something is made from a checked config is still the config's fault, or its class's."""
    try:
        yield
    except (ConfigError, RunFailed):
        raise
    except Exception as error:
        what = next(iter(str(error).splitlines()), "")
        raise ConfigError(f"{part}: cannot be made from this config: {type(error).__name__}: {what[:300]}") from error


def place_of(recipe: Recipe, device: torch.device, world: distributed.World) -> Place:
    return Place(device, recipe.update.dtype, recipe.runtime.memory_format, world.rank, world.size)


def loader_from(recipe: Recipe, data: DataSets, place: Place) -> Loader:
    """The training loader; on CUDA it makes the next batch while a step runs."""
    loader = data.loader(recipe.batch_size, recipe.seed)
    if not recipe.runtime.prefetch or place.device.type != "cuda":
        return loader
    return Ahead(loader, place.device, steps_of(recipe, loader.steps_per_epoch))


def method_from(recipe: Recipe, data: DataSets, place: Place) -> Method:
    """The method with its networks on the device, initialised from the seed's streams."""
    share = recipe.batch_size // place.world
    accumulate = getattr(recipe.update, "accumulate", 1)
    if share % accumulate:
        raise ConfigError(
            f"update.accumulate: found {accumulate}; {share} images a process do not divide into that many parts"
        )

    for transform in recipe.transforms.values():
        if isinstance(transform, Checks):
            transform.check(data.spec)

    def make(factory: ModelFactory, name: str) -> torch.nn.Module:
        model = initialised(lambda: factory(data.spec), recipe.seed, name)
        if recipe.runtime.sync_bn:
            model = distributed.with_shared_statistics(model, place.device)
        return model.to(place.device, place.dtype).to(memory_format=place.memory_format)

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        return compiled(distributed.wrapped(model, place.device), recipe.runtime.compile)

    slots = Slots(
        tuple(t for t in recipe.transforms.values() if t is not None),
        recipe.model,
        recipe.objective,
        Switched(recipe.optimizer, recipe.runtime.fused),
        recipe.schedule,
        recipe.update,
        recipe.ema,
    )
    return recipe.method(slots, Workshop(data.spec, place, make, wrap, decay_groups, distributed.sync_buffers))


def evaluation_from(recipe: Recipe, data: DataSets) -> list[Evaluator]:
    """The evaluators, once their splits are known to exist."""
    chosen = {name: e for name, e in recipe.evaluators.items() if e is not None}
    for name, evaluator in chosen.items():
        for split in getattr(evaluator, "splits", ()):
            if split not in data.splits:
                raise ConfigError(
                    f"evaluators.{name}.splits: found {split}; the data has {', '.join(data.splits)} "
                    "(data.minival=N carves a selection split)"
                )
    return list(chosen.values())


def steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    return in_steps(recipe.steps, steps_per_epoch)

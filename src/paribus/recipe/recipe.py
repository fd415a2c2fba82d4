"""A composed config becomes a checked recipe: one complete run, its id and its folder.

Errors in a user's config are found here, before any data is read or any folder made.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from paribus.core.build import build, instantiate, matches_signature, resolve, schema, to_config
from paribus.core.content import Checksum, iterate_files
from paribus.core.duration import PositiveDuration
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluatorInContext
from paribus.core.formatting import format_list
from paribus.core.protocols import (
    DataFactory,
    EMAFactory,
    Evaluator,
    MethodFactory,
    ModelFactory,
    Objective,
    OptimizerFactory,
    Schedule,
    StartsFromFile,
    TrackerFactory,
    Transform,
    Update,
    WrapsNetwork,
)
from paribus.engine.runtime import Runtime
from paribus.interop.weight_files import find_weights, hash_weights
from paribus.recipe.equal_draws import refuse_equal_draws
from paribus.recipe.files import fill_checksums
from paribus.recipe.identity import computed_part, fill_in_earlier, hash_recipe
from paribus.recipe.near_keys import explain_unknown_key, list_keys
from paribus.recipe.overlays import apply_overlays, explain_leftovers
from paribus.recipe.packages import check_packages


def _check_file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("should be part of a file name: letters, digits, and _ . - after the first")
    return name


@schema
class EveryConfig:
    """Intervals; the last step has all three.

    log: between entries of the record. evaluate: between evaluations. checkpoint: between checkpoints.
    """

    log: PositiveDuration = "50ba"
    evaluate: PositiveDuration = "1ep"
    checkpoint: PositiveDuration = "1ep"


@schema
class CheckpointsConfig:
    """keep: how many of the newest are kept."""

    keep: Annotated[int, Field(ge=1)] = 2


@schema
class PathsConfig:
    """runs: the folder of run folders."""

    runs: str = "runs"


@schema
class Recipe:
    """A complete run. Each field is a key of configs/train.yaml.

    name: readable part of the run folder's name. seed: of initialisation, order, augmentation and every technique's own
    draws. steps: length, in epochs (90ep) or optimizer steps (500ba). batch_size: images a step, over all processes and
    parts. init_from: initial weights, of a file, a run or an export. init_from_sha256: what they are known by, filled
    in when the recipe is composed. init_strict: whether all weights must fit, but for the head. packages: further
    Python packages whose classes a config may name. techniques: their names, filled in.

    data: images and labels, and how they are augmented. model: the network. method: what one step means. transforms:
    what changes a batch, by name and in order; techniques put theirs here. objective: the loss. optimizer: from
    gradients to weights. schedule: factor of the learning rate over the run. update: from a loss to an optimizer step.
    ema: average of the weights. evaluators: what is measured, by name. tracker: where results go, by name. runtime:
    device, threads and numerics. every: intervals. checkpoints: how many stay. paths: where runs lie.
    """

    name: Annotated[str, AfterValidator(_check_file_name)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    steps: PositiveDuration
    batch_size: Annotated[int, Field(ge=1)]
    data: Annotated[DataFactory, matches_signature(DataFactory)]
    model: Annotated[ModelFactory, matches_signature(ModelFactory)]
    method: Annotated[MethodFactory, matches_signature(MethodFactory)]
    transforms: dict[str, Annotated[Transform | None, matches_signature(Transform)]]
    objective: Annotated[Objective, matches_signature(Objective)]
    optimizer: Annotated[OptimizerFactory, matches_signature(OptimizerFactory)]
    schedule: Annotated[Schedule, matches_signature(Schedule)]
    update: Annotated[Update, matches_signature(Update)]
    ema: Annotated[EMAFactory, matches_signature(EMAFactory)]
    evaluators: dict[
        str, Annotated[Evaluator | EvaluatorInContext | None, matches_signature(Evaluator, EvaluatorInContext)]
    ]
    tracker: dict[str, Annotated[TrackerFactory | None, matches_signature(TrackerFactory)]] = Field(
        default_factory=dict
    )
    runtime: Runtime
    every: EveryConfig
    checkpoints: CheckpointsConfig
    paths: PathsConfig
    init_from: str | None = None
    init_from_sha256: Checksum = None
    init_strict: bool = True
    packages: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()

    @property
    def find_init_from(self) -> Callable[[], Path] | None:
        """What finds the file of weights that `init_from` names (core/content.py); None without one."""
        return None if self.init_from is None else functools.partial(find_weights, self.init_from)

    def hash_init_from(self, path: Path) -> str:
        return hash_weights(path)

    @property
    def network(self) -> ModelFactory:
        """What makes the network that is trained and kept as `model`: the recipe's, unless the method builds around it.
        No file of starting weights is read for it."""
        model = self.model.without_file() if isinstance(self.model, StartsFromFile) else self.model
        return self.method.network_factory(model) if isinstance(self.method, WrapsNetwork) else model

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Plain data from which this recipe is rebuilt, every default written out."""
        return {key: value for key, value in to_config(self).items() if key != "_target_"}

    @functools.cached_property
    def computed(self) -> dict[str, Any]:
        """What is computed: the config without paths, trackers, device or cadence."""
        return computed_part(self.config)

    @functools.cached_property
    def id(self) -> str:
        """12 hex digits of a hash of what is computed."""
        return hash_recipe(self.computed)

    @property
    def title(self) -> str:
        """Readable name of this run, e.g. quickstart-cutmix-s0."""
        return f"{self.name}-{'+'.join(self.techniques) or 'baseline'}-s{self.seed}"

    @property
    def folder(self) -> Path:
        return Path(self.paths.runs).expanduser() / f"{self.title}-{self.id}"


def build_recipe(cfg: Any, technique_names: list[str], known_checksums: dict[Path, str] | None = None) -> Recipe:
    """Check a composed config, with the names of the requested techniques. Raises ConfigError.

    known_checksums: of files hashed before, so that the recipes of a study read each file once.
    """
    check_given(cfg)
    composed = apply_overlays(cfg, technique_names)
    try:
        recipe = _check(composed)
    except ConfigError as error:
        if leftovers := explain_leftovers(cfg, str(error)):
            raise ConfigError(f"{error}{leftovers}") from error
        raise
    data = recipe.config.get("data")
    refuse_equal_draws(recipe.transforms, data.get("augment") if isinstance(data, Mapping) else None)
    if recipe.init_from is not None and isinstance(recipe.model, StartsFromFile):
        for file in iterate_files(recipe.model, "model"):
            raise ConfigError(f"init_from: {file.key} names starting weights too; leave one of them out")
    return fill_checksums(recipe, known_checksums)


def rebuild_recipe(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a run folder's config.yaml, which may be of an earlier version. Its checksums stay, and no file is
    read. Raises ConfigError."""
    return _check(fill_in_earlier(config))


def _check(config: Mapping[str, Any]) -> Recipe:
    check_given(config)
    packages = check_packages(config.get("packages") or ())
    if isinstance(config.get("experiment"), Mapping):
        raise ConfigError("experiment: an experiment's file needs `# @package _global_` as its first line")
    _check_keys(config)
    if "objective" in config:
        config = {**config, "objective": _without_unset_weights(config["objective"], packages)}
    values = build(config, packages=packages)
    for key, cls in {"every": EveryConfig, "checkpoints": CheckpointsConfig, "paths": PathsConfig}.items():
        if isinstance(values.get(key), dict):  # written without a _target_ in train.yaml: there is nothing to choose
            values[key] = instantiate(cls, values[key], key)
    return instantiate(Recipe, values)


def _without_unset_weights(objective: Any, packages: tuple[str, ...]) -> Any:
    """The objective's config. One of the user's own, written over the default one (objective: {_target_: mine.Loss}),
    has the default's class_weights too, and need not know them while nobody has set them."""
    if not isinstance(objective, Mapping) or objective.get("class_weights", "") is not None:
        return objective
    known = {field.name for field in fields(resolve(objective.get("_target_"), "objective", packages))}
    return {key: value for key, value in objective.items() if key != "class_weights" or key in known}


def _check_keys(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for keys at the top that no recipe has, with what each may have meant."""
    unknown = [key for key in config if key not in {field.name for field in fields(Recipe)}]
    if unknown:
        near = [f"{key}: no such key{explain_unknown_key(str(key), list_keys(config), config[key])}" for key in unknown]
        raise ConfigError(f"{'; '.join(near)}; paribus train --help shows them all")


def check_given(config: Any) -> None:
    """Raise ConfigError where a config, or an override, leaves a value for somebody to give (OmegaConf's ???)."""
    refuse_missing([path for path, value in _iterate_leaves(config) if value == "???"])


def refuse_missing(missing: Sequence[str]) -> None:
    if missing:
        given = " ".join(f"{path}=VALUE" for path in missing)
        raise ConfigError(f"{format_list(missing)}: missing value{'s' * (len(missing) > 1)} (???); give {given}")


def _iterate_leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; those of a list have its key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _iterate_leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _iterate_leaves(value, path)
    else:
        yield path, node

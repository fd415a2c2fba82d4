"""A network that was trained before, as `paribus eval`, `predict` and `export` load it: from a run folder, one of its
checkpoints, or an export."""

import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from torch import Tensor, nn

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.labels import choose_class_ids, match_classes, relabel
from paribus.core.protocols import DataSets, DeviceContext, Method, Spec
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.loop import restore
from paribus.models.about import read_about
from paribus.models.exported import file_names, load
from paribus.recipe.build import build_method, explain_build_errors
from paribus.recipe.near_keys import find_same, format_near, list_keys
from paribus.recipe.overlays import with_value
from paribus.recipe.recipe import Recipe, rebuild_recipe
from paribus.runs.screen_text import format_packages

EXPORTS = (".safetensors", ".json")


@dataclass(frozen=True)
class SavedRun:
    """folder: of the run, or that of the export. recipe: with the overrides of this call. summary: {} where a killed
    run has none. export: the .safetensors, if it is of one; then the checkpoint has no state."""

    folder: Path
    recipe: Recipe
    checkpoint: Checkpoint
    summary: dict[str, Any]
    export: Path | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.folder.name if self.export is None else f"{self.export.name} of {self.recipe.title}"


def load_saved_run(path: Path, overrides: Sequence[str], allowed: tuple[str, ...]) -> SavedRun:
    """From a run folder, checkpoint or export and overrides. allowed: the keys that may be overridden; a dot at the end
    allows all keys with that prefix. Raises ConfigError."""
    if not path.exists():
        raise ConfigError(f"{path}: no run, checkpoint or export there; paribus list runs names runs")
    if path.suffix in EXPORTS:
        return _load_export(path, overrides, allowed)
    folder = path if path.is_dir() else path.absolute().parent.parent
    if path.name == "last" and path.is_file():
        path = path.with_name(path.read_text().strip())
    recipe = rebuild_with_overrides(runfolder.read_config(folder), overrides, allowed)
    found = load_newest_checkpoint(folder) if path.is_dir() else checkpoint.load(path)
    if found is None:
        raise ConfigError(f"{folder} has no checkpoint yet; train it first")
    if found.recipe != recipe.id:
        raise ConfigError(f"{path}: the checkpoint is of recipe {found.recipe}, config.yaml of {recipe.id}")
    return SavedRun(folder, recipe, found, runfolder.read_json(folder / runfolder.SUMMARY))


def _load_export(path: Path, overrides: Sequence[str], allowed: tuple[str, ...]) -> SavedRun:
    weights, description = file_names(path)
    about = read_about(description)
    if not about.recipe:
        raise ConfigError(f"{description}: it is from before an export kept its recipe; export the run again")
    recipe = rebuild_with_overrides(dict(about.recipe), overrides, allowed)
    ids = choose_class_ids(about.class_ids, about.classes) if about.classes else None
    found = Checkpoint(about.run.get("step", 0), recipe.id, {}, {}, ids, about.classes or None)
    if about.run.get("id") != recipe.id:
        raise ConfigError(f"{description}: it is of the run {about.run.get('id')}, and has the recipe of {recipe.id}")
    summary = {"inputs": about.inputs, "metrics": about.metrics, "step": found.step}
    return SavedRun(path.absolute().parent, recipe, found, summary, weights)


@dataclass(frozen=True)
class ExportedNetwork:
    """What evaluation needs of a method."""

    model: nn.Module

    @property
    def eval_model(self) -> nn.Module:
        return self.model

    def prepare_eval(self) -> None:
        self.model.eval()

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits."""
        return self.model(inputs)


def load_network(found: SavedRun, recipe: Recipe, data: DataSets, place: DeviceContext) -> Method | ExportedNetwork:
    """What evaluates and predicts, with the trained weights, on the device. recipe: that of `found`, perhaps with other
    data. Raises ConfigError."""
    with explain_build_errors("model"):
        if found.export is not None:
            model = load(found.export, recipe.packages, place.dtype).to(place.device)
            return ExportedNetwork(model.to(memory_format=place.memory_format))  # pyright: ignore[reportCallIssue]
        method = build_method(recipe, data, place, from_checkpoint=True, trains=False)
        try:
            restore(found.checkpoint, method)
        except ConfigError as error:
            raise ConfigError(f"{found.folder}: {error}") from error
    return method


def describe_data(found: SavedRun) -> DataSets:
    """What a network must know of the data it was trained on, without the images: where the summary says it, they need
    not be there. Raises ConfigError."""
    inputs, ids = read_inputs(found), found.checkpoint.class_ids or ()
    spec = Spec(**{field.name: inputs[field.name] for field in fields(Spec)})
    names = found.checkpoint.class_names or ()
    return DataSets(spec, _no_loader, {}, {}, "", tuple(inputs["mean"]), tuple(inputs["std"]), names, ids)


def _no_loader(batch_size: int, seed: int) -> NoReturn:
    raise ConfigError("data: only described, there are no images to train on")


def read_inputs(found: SavedRun) -> dict[str, Any]:
    """What the network was trained on (a Spec's fields, mean, std): from the run's summary, or from the data where a
    killed run has none."""
    if "inputs" in found.summary:
        return found.summary["inputs"]
    data = found.recipe.data(DeviceContext(torch.device("cpu")))
    return {**vars(data.spec), "mean": list(data.mean), "std": list(data.std)}


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest sound checkpoint of a run; a damaged one is skipped with a line on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = checkpoint.load_newest(folder)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    return found


def rebuild_with_overrides(
    config: dict[str, Any], overrides: Sequence[str], allowed: tuple[str, ...], command: str = ""
) -> Recipe:
    """The recipe of a run's config with overrides. Raises ConfigError, which names the packages that are needed, with
    the command that takes them if it is given."""
    try:
        return rebuild_recipe(with_overrides(config, overrides, allowed))
    except ConfigError as error:
        if "(packages=" in str(error) and (needed := format_packages(config.get("packages") or ())):
            full = f"; run: {command} {shlex.quote(needed)}" if command else ""
            raise ConfigError(f"{error}; this run was trained with {needed}{full}") from error
        raise


def _is_allowed(key: str, allowed: tuple[str, ...]) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in allowed)


def with_labels_of(found: SavedRun, data: DataSets) -> DataSets:
    """The data with its labels in the order of the classes that the network was trained on. Raises ConfigError, with
    the names, if it has other classes."""
    trained = found.checkpoint.class_ids
    warn_of_unknown_classes(found.folder, trained, data.class_ids)
    if not trained or not data.class_ids or trained == data.class_ids:
        return data
    indices = match_classes(data.class_ids, trained, "data", "the network")
    print("warning: data: its classes are in another order than the network's; matched by name", file=sys.stderr)
    return replace(data, splits=relabel(data.splits, indices, len(trained)), class_ids=trained, names=())


def warn_of_unknown_classes(folder: Path, trained: tuple[str, ...] | None, found: tuple[str, ...]) -> None:
    """Say where labels are taken by their position, unchecked. trained: ids of a checkpoint's classes. Nothing is said
    of a run whose data never had names."""
    if trained is None:
        reason = f"the checkpoint of {folder} is from before class names were kept"
    elif bool(trained) != bool(found):
        reason = f"{'the data has' if trained else f'the checkpoint of {folder} has'} no class names"
    else:
        return
    print(f"warning: {reason}; labels are taken by their position, unchecked", file=sys.stderr)


def with_overrides(config: dict[str, Any], overrides: Sequence[str], allowed: tuple[str, ...]) -> dict[str, Any]:
    """The config with overrides of what may differ from where the run was trained.

    Packages whose classes may be used come from the command line alone: a run folder from elsewhere must not choose
    what code is imported.
    """
    config = {**config, "packages": []}
    for override in overrides:
        key, _, text = override.partition("=")
        if not _is_allowed(key, allowed):
            keys = ", ".join(f"{name}KEY" if name.endswith(".") else name for name in allowed)
            near = find_same(key, (k for k in list_keys(config) if _is_allowed(k, allowed)))
            raise ConfigError(f"{key}: cannot be overridden here{format_near(near[:2])}; what can be: {keys}")
        group = key.partition(".")[0]
        if group not in config or (key != group and not isinstance(config[group], dict)):
            raise ConfigError(f"{key}: the run's config has no {group}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{key}: found {text!r}, which is not YAML: {error}") from error
        config = with_value(config, key, value)
    return config

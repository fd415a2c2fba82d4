"""`paribus export`: a trained network as safetensors and a .json that says all that is needed to use it."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from paribus.core import runfolder
from paribus.core.content import SUFFIX
from paribus.core.errors import ConfigError
from paribus.core.labels import format_classes
from paribus.core.protocols import Spec
from paribus.data.loaders.preprocessing import DecodeWhole, HasFilePreprocessing
from paribus.models.about import Preprocessing, format_preprocessing
from paribus.models.exported import save
from paribus.recipe.recipe import PathsConfig, Recipe
from paribus.runs.saved_run import SavedRun, read_inputs


def export_run(found: SavedRun, target: Path) -> tuple[Path, Path]:
    """Write target, a .safetensors, and the .json beside it. Returns both. Raises ConfigError."""
    weights = found.checkpoint.method.get("ema", found.checkpoint.method.get("model"))
    if weights is None:
        raise ConfigError(f"{found.folder}: its method keeps no single network (`model`) that could be exported")
    inputs = read_inputs(found)
    spec = Spec(**{field.name: inputs[field.name] for field in fields(Spec)})
    try:
        with runfolder.create_folder(target.parent):
            return save(target, found.recipe.network, spec, weights, _describe(found, inputs))
    except OSError as error:
        raise ConfigError(f"--out: {target} cannot be written: {error.strerror}") from error


def _describe(found: SavedRun, inputs: dict[str, Any]) -> dict[str, Any]:
    recipe, step = found.recipe, found.checkpoint.step
    classes: dict[str, Any] = {}
    if found.checkpoint.class_ids is None:
        print(
            f"warning: {found.folder}: its checkpoint is from before class names were kept; the export has none",
            file=sys.stderr,
        )
    else:
        classes = format_classes(found.checkpoint.class_ids, found.checkpoint.class_names or ())
    return {
        "inputs": inputs,
        **classes,
        "preprocessing": format_preprocessing(describe_preprocessing(recipe)),
        "weights": "average" if "ema" in found.checkpoint.method else "model",
        "run": {"id": recipe.id, "title": recipe.title, "step": step},
        "techniques": list(recipe.techniques),
        "seed": recipe.seed,
        "recipe": drop_places(recipe.config),
        # recorded metrics are those of the last step; an earlier checkpoint is exported without
        "metrics": found.summary.get("metrics", {}) if step == found.summary.get("step") else {},
    }


def drop_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config without what stands for this machine: an export goes to others. Files that are known by their
    checksum keep their names, and the run keeps its id.

    >>> drop_places({"data": {"root": "/data/photos"}, "path": "/a/b.pt", "path_sha256": "e3b0"})
    {'data': {'root': None}, 'path': 'b.pt', 'path_sha256': 'e3b0'}
    """
    kept = _shorten(config)
    if isinstance(data := kept.get("data"), dict):
        kept["data"] = {key: None if key in ("root", "pack") else value for key, value in data.items()}
    if "paths" in kept:
        kept["paths"] = {**kept["paths"], "runs": PathsConfig().runs}
    return kept


def _shorten(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return [_shorten(item) for item in cast(list[Any], node)]
    if not isinstance(node, Mapping):
        return node
    known = cast(Mapping[str, Any], node)
    files = {key for key in known if isinstance(known.get(f"{key}{SUFFIX}"), str) and isinstance(known[key], str)}
    return {key: Path(value).name if key in files else _shorten(value) for key, value in known.items()}


def describe_preprocessing(recipe: Recipe) -> Preprocessing | None:
    """How an image file becomes an input, in words that need no paribus; None where the data set does not say."""
    data = recipe.data
    if not isinstance(data, HasFilePreprocessing):
        return None
    try:
        done = data.file_preprocessing()
    except ConfigError:  # no image file has as many channels
        return None
    whole = isinstance(done.decode, DecodeWhole)
    means = "bilinear" if done.size == done.stored else "area"  # of a small set that is averaged down
    return Preprocessing(
        size=done.size,
        crop_ratio=getattr(data, "eval_ratio", 1.0),
        interpolation=getattr(data, "interpolation", means),
        channels=done.channels,
        mean=tuple(done.input_spec.mean),
        std=tuple(done.input_spec.std),
        stored_size=None if whole else done.stored,
    )

"""`paribus export`: a trained network as safetensors and a .json that says all that is needed to use it."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.labels import format_classes
from paribus.core.protocols import Spec
from paribus.data.loaders.preprocessing import DecodeWhole, HasFilePreprocessing
from paribus.models.about import Preprocessing, format_preprocessing
from paribus.models.exported import save
from paribus.recipe.recipe import Recipe
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
            return save(target, found.recipe.model, spec, weights, _describe(found, inputs))
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
        "recipe": recipe.config,
        # recorded metrics are those of the last step; an earlier checkpoint is exported without
        "metrics": found.summary.get("metrics", {}) if step == found.summary.get("step") else {},
    }


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

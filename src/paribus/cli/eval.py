"""`paribus eval RUN|CHECKPOINT`: evaluate a trained network again, on its own data or another of the same shape."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import yaml

from paribus.cli.arguments.trained import EVAL_KEYS, split_run
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.protocols import DataSets, DeviceContext
from paribus.data.images import ImageSet
from paribus.data.loaders.evaluation_files import build_evaluation_of_files
from paribus.data.loaders.preprocessing import find_file_preprocessing
from paribus.data.trees.evaluation_tree import find_class_folders
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import restore
from paribus.engine.runtime import apply_runtime
from paribus.evaluators.unmixed_loss import UnmixedLoss
from paribus.recipe.build import build_evaluators, build_method, explain_build_errors, make_device_context
from paribus.recipe.recipe import Recipe, rebuild_recipe
from paribus.runs.saved_run import SavedRun, load_saved_run, rebuild_with_overrides, with_labels_of


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder or checkpoint")
    named = [o for o in overrides if o.startswith("data=")]
    of_data = [o for o in overrides if o.startswith("data.")] if named else []
    others = [o for o in overrides if o not in named + of_data]
    # which images are read is settled once it is known that the checkpoint is of the run's own recipe
    found = load_saved_run(where, [o for o in others if not o.startswith(("data.root=", "data.on_error="))], EVAL_KEYS)
    recipe = found.recipe
    if named:
        recipe = rebuild_recipe({**recipe.config, "data": _compose_data(found, named + of_data, args.config_dir)})
    top = _find_class_folders(found, recipe, overrides)
    if not named:
        kept = others if top is None else [o for o in others if not o.startswith("data.root=")]
        recipe = rebuild_with_overrides(recipe.config, kept, EVAL_KEYS)
    if top is not None:
        recipe = _with_only_val(recipe)
    if any(o.startswith("data") for o in overrides):  # whose training images are not what the network was trained on
        recipe = replace(
            recipe, evaluators={k: e for k, e in recipe.evaluators.items() if not isinstance(e, UnmixedLoss)}
        )

    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    with explain_build_errors("data"):
        data = recipe.data(place) if top is None else _read_class_folders(found, top, recipe, place)
        data = with_labels_of(found, data)
        _check_inputs(found, data)
        evaluators = build_evaluators(recipe, data)
    with explain_build_errors("model"):
        method = build_method(recipe, data, place, from_checkpoint=True, trains=False)
        try:
            restore(found.checkpoint, method)
        except ConfigError as error:
            raise ConfigError(f"{found.folder}: {error}") from error
    other = f", on {' '.join(named + of_data)}" if named else ""
    print(f"{found.folder.name} after step {found.checkpoint.step}{other}")
    for key, value in sorted(evaluate(method, evaluators, data.splits).items()):
        print(f"  {key:<16} {value:.6f}")
    return OK


def _find_class_folders(found: SavedRun, recipe: Recipe, overrides: Sequence[str]) -> Path | None:
    """Where the tree of data.root=TREE has its class folders, if it is for evaluation alone."""
    given = [o.partition("=")[2] for o in overrides if o.startswith("data.root=")]
    if not given or not isinstance(root := yaml.safe_load(given[-1]), str):
        return None
    path = Path(root).expanduser()
    if isinstance(recipe.data, ImageSet) and recipe.data.is_at(path):
        return None
    return find_class_folders(path, found.checkpoint.class_ids or ())


def _read_class_folders(found: SavedRun, top: Path, recipe: Recipe, place: DeviceContext) -> DataSets:
    skip = getattr(recipe.data, "on_error", "raise") == "skip"
    preprocessing = find_file_preprocessing(recipe.data)
    return build_evaluation_of_files(top, found.checkpoint.class_ids or (), preprocessing, place, skip)


def _with_only_val(recipe: Recipe) -> Recipe:
    """The recipe without evaluators of other splits, which such a tree has not."""
    kept: dict[str, Any] = {}
    for name, evaluator in recipe.evaluators.items():
        splits = getattr(evaluator, "splits", None)
        if evaluator is not None and (splits is None or "val" in splits):
            kept[name] = evaluator if splits is None else replace(cast(Any, evaluator), splits=("val",))
    return replace(recipe, evaluators=kept)


def _compose_data(found: SavedRun, overrides: list[str], config_dir: Path | None) -> dict[str, Any]:
    """The config of another data set, with the mean and deviation that the network was trained with."""
    from paribus.recipe.compose import compose_config

    config = compose_config(overrides, config_dir)["data"]
    inputs = found.summary.get("inputs", {})
    return {**config, **{key: inputs[key] for key in ("mean", "std") if key in config and key in inputs}}


def _check_inputs(found: SavedRun, data: DataSets) -> None:
    """A network may be built for its data's size, so another size would mean another network."""
    trained = {key: found.summary.get("inputs", {}).get(key) for key in asdict(data.spec)}
    if None not in trained.values() and trained != asdict(data.spec):
        old, new = (
            f"{s['channels']}×{s['height']}×{s['width']} images of {s['classes']} classes"
            for s in (trained, asdict(data.spec))
        )
        raise ConfigError(f"data: found {new}; the network was trained on {old}")

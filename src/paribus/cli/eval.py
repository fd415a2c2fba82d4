"""`paribus eval RUN|CHECKPOINT`: evaluate a trained network again, on its own data or another of the same shape."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from paribus.cli.arguments.trained import EVAL_KEYS, split_run
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.protocols import DataSets
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import restore
from paribus.engine.runtime import apply_runtime
from paribus.evaluators.unmixed_loss import UnmixedLoss
from paribus.recipe.build import build_evaluators, build_method, explain_build_errors, make_device_context
from paribus.recipe.recipe import rebuild_recipe
from paribus.runs.saved_run import SavedRun, load_saved_run, with_labels_of


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder or checkpoint")
    named = [o for o in overrides if o.startswith("data=")]
    of_data = [o for o in overrides if o.startswith("data.")] if named else []
    found = load_saved_run(where, [o for o in overrides if o not in named + of_data], EVAL_KEYS)
    recipe = found.recipe
    if named:
        recipe = rebuild_recipe({**recipe.config, "data": _compose_data(found, named + of_data, args.config_dir)})
    if any(o.startswith("data") for o in overrides):  # whose training images are not what the network was trained on
        recipe = replace(
            recipe, evaluators={k: e for k, e in recipe.evaluators.items() if not isinstance(e, UnmixedLoss)}
        )

    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    with explain_build_errors("data"):
        data = with_labels_of(found, recipe.data(place))
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

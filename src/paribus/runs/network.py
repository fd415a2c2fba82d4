"""The trained network of a run as a torch module, without exporting it first."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from torch import nn

from paribus.core.errors import ConfigError, explain_misfit
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.runs.saved_run import load_saved_run, read_inputs


def load_network(path: Path, packages: Sequence[str] = ()) -> nn.Module:
    """See Run.load. path: of a run folder, or of one of its checkpoints."""
    found = load_saved_run(path, [f"packages={json.dumps(list(packages))}"] if packages else [], ("packages",))
    weights = found.checkpoint.method.get("ema", found.checkpoint.method.get("model"))
    if weights is None:
        raise ConfigError(f"{path}: its method keeps no single network (`model`) that could be loaded")
    factory, inputs = found.recipe.network, read_inputs(found)
    with use_generator(stream(0, "exported")):  # the initial weights are discarded
        model = factory(Spec(**{field.name: inputs[field.name] for field in fields(Spec)}))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{path}: its checkpoint does not fit its network: {explain_misfit(error)}") from error
    model.class_names = found.checkpoint.class_names or ()  # pyright: ignore[reportArgumentType]
    model.class_ids = found.checkpoint.class_ids or ()  # pyright: ignore[reportArgumentType]
    return model.eval()

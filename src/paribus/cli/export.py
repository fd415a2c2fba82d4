"""`paribus export`: a trained network as safetensors and a small JSON, for `paribus.load` and plain torch."""

import argparse
import json
import shlex
import sys
from dataclasses import fields

from paribus.cli.arguments.trained import EXPORT_KEYS, split_run
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.exit_codes import OK
from paribus.core.labels import format_classes
from paribus.core.protocols import Spec
from paribus.runs.saved_run import load_saved_run, read_inputs


def run(args: argparse.Namespace) -> int:
    where, overrides = split_run(args, "run folder or checkpoint")
    found = load_saved_run(where, overrides, EXPORT_KEYS)
    target = args.out or found.folder / "model.safetensors"
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out: found {target}; the name should end in .safetensors")
    weights = found.checkpoint.method.get("ema", found.checkpoint.method.get("model"))
    if weights is None:
        raise ConfigError(f"{found.folder}: its method keeps no single network (`model`) that could be exported")
    inputs = read_inputs(found)
    spec = Spec(**{field.name: inputs[field.name] for field in fields(Spec)})
    facts = {
        "inputs": inputs,
        "weights": "average" if "ema" in found.checkpoint.method else "model",
        "run": {"id": found.recipe.id, "title": found.recipe.title, "step": found.checkpoint.step},
        # recorded metrics are those of the last step; an earlier checkpoint is exported without
        "metrics": found.summary.get("metrics", {}) if found.checkpoint.step == found.summary.get("step") else {},
    }

    if found.checkpoint.class_ids is None:
        print(
            f"warning: {found.folder}: its checkpoint is from before class names were kept; the export has none",
            file=sys.stderr,
        )
    else:
        facts |= format_classes(found.checkpoint.class_ids, found.checkpoint.class_names or ())

    from paribus.models.exported import save

    try:
        with runfolder.create_folder(target.parent):
            written = save(target, found.recipe.model, spec, weights, facts)
    except OSError as error:
        raise ConfigError(f"--out: {target} cannot be written: {error.strerror}") from error
    for file in written:
        print(file)
    packages = f", packages={json.dumps(found.recipe.packages)}" if found.recipe.packages else ""
    code = f"import paribus; model = paribus.load({json.dumps(str(target), ensure_ascii=False)}{packages})"
    print(f"\nread back:  python -c {shlex.quote(code)}")
    return OK

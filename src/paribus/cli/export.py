"""`paribus export RUN`: the trained network as safetensors and a small JSON, for `paribus.load` and plain torch."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext, Spec
from paribus.recipe.recipe import Recipe
from paribus.runs.saved_run import load_saved_run

USAGE = "usage: paribus export RUN|CHECKPOINT [--out FILE.safetensors] [data.root=DIR] [packages=[NAME]]"


def run(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(
            f"{USAGE}\n\nWrites the weights (averaged ones where the run keeps an average) and FILE.json beside them."
        )
        return 0
    rest, out = _without_out(arguments)
    found = load_saved_run(rest, USAGE, ("data.root", "packages"))
    target = out or found.folder / "model.safetensors"
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out: found {target}; the name should end in .safetensors")
    weights = found.checkpoint.method.get("ema", found.checkpoint.method.get("model"))
    if weights is None:
        raise ConfigError(f"{found.folder}: its method keeps no single network (`model`) that could be exported")
    inputs = _inputs(found.recipe, found.summary)
    spec = Spec(**{field.name: inputs[field.name] for field in fields(Spec)})
    facts = {
        "inputs": inputs,
        "weights": "average" if "ema" in found.checkpoint.method else "model",
        "run": {"id": found.recipe.id, "title": found.recipe.title, "step": found.checkpoint.step},
        # the record tells the metrics of the last step; an earlier checkpoint is told without
        "metrics": found.summary.get("metrics", {}) if found.checkpoint.step == found.summary.get("step") else {},
    }

    from paribus.models.exported import save

    try:
        with runfolder.create_folder(target.parent):
            written = save(target, found.recipe.model, spec, weights, facts)
    except OSError as error:
        raise ConfigError(f"--out: {target} cannot be written: {error.strerror}") from error
    for path in written:
        print(path)
    print(f"\nread back:  python -c \"import paribus; model = paribus.load('{target}')\"")
    return 0


def _without_out(arguments: list[str]) -> tuple[list[str], Path | None]:
    """The other arguments, and the value of --out FILE or --out=FILE."""
    rest: list[str] = []
    out: Path | None = None
    pending = iter(arguments)
    for argument in pending:
        if argument == "--out" or argument.startswith("--out="):
            value = argument.partition("=")[2] or next(pending, "")
            if not value:
                raise ConfigError(f"--out: a file name should follow; {USAGE}")
            out = Path(value).expanduser()
        else:
            rest.append(argument)
    return rest, out


def _inputs(recipe: Recipe, summary: dict[str, Any]) -> dict[str, Any]:
    """What the network was trained on: from the run's summary, or from the data where a killed run has none."""
    if "inputs" in summary:
        return summary["inputs"]
    import torch

    data = recipe.data(DeviceContext(torch.device("cpu")))
    return {**vars(data.spec), "mean": list(data.mean), "std": list(data.std)}

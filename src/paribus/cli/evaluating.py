"""`paribus eval RUN|CHECKPOINT`: evaluate a trained network again, from what its run folder says."""

from pathlib import Path

import yaml

from paribus.cli.compose import evaluation_from, method_from, place_of, recipe_again
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.runtime import prepare

USAGE = "usage: paribus eval RUN|CHECKPOINT   (a folder under runs/, or a file of its checkpoints/)"


def run(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(arguments) != 1:
        raise ConfigError(f"eval takes one run folder or checkpoint, found {len(arguments)}; {USAGE}")
    path = Path(arguments[0])
    folder = path if path.is_dir() else path.parent.parent
    if not (folder / runfolder.CONFIG).is_file():
        raise ConfigError(f"{path}: no run there (no {runfolder.CONFIG} in {folder}); paribus list runs names them")
    try:
        recipe = recipe_again(yaml.safe_load((folder / runfolder.CONFIG).read_text()))
    except yaml.YAMLError as error:
        raise ConfigError(f"{folder / runfolder.CONFIG} is damaged: {error}") from error
    found = checkpoint.newest(folder) if path.is_dir() else checkpoint.load(path)
    if found is None:
        raise ConfigError(f"{folder} has no checkpoint yet; train it first")
    if found.recipe != recipe.id:
        raise ConfigError(f"{path}: the checkpoint is of recipe {found.recipe}, config.yaml of {recipe.id}")

    place = place_of(recipe, prepare(recipe.runtime, World()), World())
    data = recipe.data(place)
    evaluators = evaluation_from(recipe, data)
    method = method_from(recipe, data, place)
    method.load_state_dict(found.method)
    print(f"{folder.name} after step {found.step}")
    for key, value in sorted(evaluate(method, evaluators, data.splits).items()):
        print(f"  {key:<16} {value:.6f}")
    return 0

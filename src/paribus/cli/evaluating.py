"""`paribus eval RUN|CHECKPOINT`: evaluate a trained network again, from what its run folder says."""

from pathlib import Path
from typing import Any

import yaml

from paribus.cli.compose import evaluation_from, method_from, place_of, recipe_again
from paribus.cli.overlays import with_value
from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.runtime import prepare

USAGE = "usage: paribus eval RUN|CHECKPOINT [data.root=DIR] [runtime.KEY=VALUE] [packages=[NAME]]"


def run(arguments: list[str]) -> int:
    if arguments in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    paths, overrides = ([a for a in arguments if ("=" in a) is wanted] for wanted in (False, True))
    if len(paths) != 1:
        raise ConfigError(f"eval takes one run folder or checkpoint, found {len(paths)}; {USAGE}")
    path = Path(paths[0])
    folder = path if path.is_dir() else path.parent.parent
    if not path.exists():
        raise ConfigError(f"{path}: no run or checkpoint there; paribus list runs names them")
    recipe = recipe_again(with_overrides(read_config(folder), overrides))
    if path.name == "last" and path.is_file():
        path = path.with_name(path.read_text().strip())
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


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.yaml. Raises ConfigError if there is none or it is damaged."""
    path = folder / runfolder.CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder}: no run there (no {runfolder.CONFIG}); paribus list runs names them")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is damaged: it is not a mapping")
    return config


def with_overrides(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The config with what may differ here from where the run was made.

    Packages whose classes may be used come from the command line alone: a run folder from elsewhere must not choose
    what code is imported.
    """
    config = {**config, "packages": []}
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in ("data.root", "packages") and not key.startswith("runtime."):
            raise ConfigError(f"{key}: eval takes data.root, runtime.* and packages; the rest is the run's own")
        group = key.partition(".")[0]
        if group not in config or (key != group and not isinstance(config[group], dict)):
            raise ConfigError(f"{key}: the run's config has no {group}")
        config = with_value(config, key, yaml.safe_load(value))
    return config

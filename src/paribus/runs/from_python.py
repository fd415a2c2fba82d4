"""`paribus.train`: what `paribus train` does, for notebooks and scripts, in a process that goes on afterwards."""

import atexit
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from paribus.core.errors import ConfigError
from paribus.engine.distributed import destroy_process_group
from paribus.engine.stop import StopRequest
from paribus.engine.world import from_environment
from paribus.recipe.compose import check_choices, check_experiment, explain_hydra_error, find_open_keys, quote_path
from paribus.recipe.configs import find_config_folder
from paribus.recipe.overlays import with_keys_set
from paribus.recipe.recipe import build_recipe, refuse_missing
from paribus.runs.process_state import keep_process_state
from paribus.runs.run import Run
from paribus.runs.screen import Screen
from paribus.runs.train import train as train_run


def train(overrides: Sequence[str] = (), *, quiet: bool = False, config_dir: str | Path | None = None) -> Run:
    """Train one run to its end in this process and return it; the same call resumes a run that was stopped, and
    returns one that is done.

    overrides: as on the command line, each "key=value": ["experiment=quickstart", "technique=cutmix", "seed=1"].
    quiet: print one line, the result. config_dir: a folder with configs of your own, as --config-dir.

    Ctrl-C, or a notebook's interrupt, stops after the current step with a checkpoint and then raises KeyboardInterrupt;
    a second one raises it at once, and the run resumes from its last checkpoint. A scheduler's SIGTERM also gets its
    checkpoint first. Signal handlers and torch's global settings are afterwards as they were before. Under torchrun or
    srun all processes call this, and stay in one process group until they end, since it can be joined only once.

    Raises ConfigError for a mistake in the input, before anything is written; RunFailed or the error of your own code
    where training fails, which the run's FAILED file explains.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: found {overrides!r}; should be a list of them, such as [{overrides!r}]")
    words = [quote_path(str(override)) for override in overrides]
    if flags := [word for word in words if word.startswith("-")]:
        raise ConfigError(f"overrides: found {flags[0]}, a flag of the command line; an override is key=value")
    with _own_hydra():
        config, techniques = compose_run(words, None if config_dir is None else Path(config_dir))
    recipe = build_recipe(config, techniques)
    stop, screen = StopRequest(may_exit=False), Screen(quiet=quiet, sweep=True)
    if from_environment().size > 1:
        atexit.register(destroy_process_group)
    try:
        with keep_process_state(["paribus train", *words]):
            train_run(config, techniques, stop, screen)
    except KeyboardInterrupt as error:
        traceback.clear_frames(error.__traceback__)  # a notebook keeps it, and with it the workers and the GPU's memory
        raise
    if stop.received is not None:
        signal.raise_signal(stop.received)  # to whoever handles it here: KeyboardInterrupt, or the end of the process
    return Run(recipe.folder)


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra composes with one global object; where the caller has initialised it, it is theirs again afterwards."""
    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs  # not the same instance: composing puts another in its place


def compose_run(overrides: list[str], config_dir: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """The config that `paribus train` makes of these overrides, and the names of its techniques. Raises ConfigError."""
    folders = [] if config_dir is None else [config_dir.expanduser().absolute()]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"config_dir: {folder}: there is no such folder")
    check_choices(overrides, folders)
    check_experiment(overrides, folders)
    search = [f"hydra.searchpath=[{_quote(f'file://{folder}')}]" for folder in folders]
    try:
        with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
            cfg = compose("train", [*search, *overrides], return_hydra_config=True)
        return _check_composed(cfg, [*folders, find_config_folder()], overrides)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        flags = [] if config_dir is None else ["--config-dir", str(config_dir)]
        raise ConfigError(explain_hydra_error(error, [*flags, *overrides])) from error


def _quote(text: str) -> str:
    """As a string of Hydra's grammar, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _check_composed(cfg: DictConfig, folders: list[Path], overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    choices: Any = cfg.hydra.runtime.choices
    chosen = choices.get("technique")
    techniques = [chosen] if isinstance(chosen, str) else list(chosen or [])
    refuse_missing(find_open_keys(choices, folders, overrides))
    with open_dict(cfg):
        del cfg["hydra"]
    composed = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    return with_keys_set(composed, folders), techniques

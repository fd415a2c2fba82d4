"""Recipes of seconds on made-up images, on which any technique can be tried: those of the experiments smoke*."""

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.core.runfolder import write_atomically
from paribus.recipe.compose import compose_config
from paribus.recipe.configs import list_options
from paribus.recipe.overlays import BASELINE, overlay_rule
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.study.spec import merge_overrides, parse_key

QUIET = ("tracker=events", "runtime.threads=1", "runtime.device=cpu")
_OPTIMIZERS = (("optimizer=adamw",), ("optimizer=sgd", "optimizer.lr=0.1"))


def choose_techniques(techniques: Sequence[str]) -> str:
    """The override that chooses them, or the baseline."""
    return f"technique=[{','.join(techniques) or BASELINE}]"


def compose_small(
    overrides: Sequence[str], techniques: Sequence[str] = (), config_dir: Path | None = None
) -> dict[str, Any]:
    """The config of these overrides with these techniques, at the settings that they name for tiny images
    (overlays.NAME.check.small) unless the overrides say others. config_dir: of the user's own configs."""
    choice = choose_techniques(techniques)
    rules = compose_config([choice], config_dir)["overlays"]
    checks = [overlay_rule(name, rule).check for name, rule in rules.items()]
    small = [f"{path}={'null' if v is None else v}" for check in checks for path, v in check.small.items()]
    chosen = {parse_key(override): override for override in overrides if override[0] not in "+~"}
    wanted = {key: node for check in checks for key, node in check.files.items() if key not in chosen}
    small += [f"{key}={path}" for key, path in _write_files(wanted, overrides, config_dir).items()]
    quiet = [override for override in (*QUIET, *small) if parse_key(override) not in chosen]
    # of a group that is chosen twice the last counts, where Hydra's order of things would refuse it
    last = [o for o in overrides if "." in parse_key(o) or chosen.get(parse_key(o), o) == o]
    return compose_config([*quiet, *last, choice], config_dir)


def _write_files(wanted: Mapping[str, Any], overrides: Sequence[str], config_dir: Path | None) -> dict[str, Path]:
    """The files of overlays.NAME.check.files, for the data that these overrides choose. key -> path."""
    if not wanted:
        return {}
    about_data = [o for o in overrides if parse_key(o).partition(".")[0] in ("experiment", "data", "packages")]
    # of a group that is chosen twice the last counts
    last = {parse_key(o): o for o in about_data}
    recipe = build_recipe(compose_config([*QUIET, *last.values(), choose_techniques(())], config_dir), [])
    data = recipe.data(DeviceContext(torch.device("cpu")))
    written: dict[str, Path] = {}
    for key, node in wanted.items():
        content = build(node, f"check.files.{key}", recipe.packages)(data)
        written[key] = _scratch() / hashlib.sha256(content).hexdigest()
        if not written[key].exists():
            write_atomically(written[key], content)
    return written


@functools.cache
def _scratch() -> Path:
    """A folder that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="paribus-check-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build_small(overrides: Sequence[str], techniques: Sequence[str] = (), config_dir: Path | None = None) -> Recipe:
    return build_recipe(compose_small(overrides, techniques, config_dir), list(techniques))


def find_smoke_recipe(
    techniques: Sequence[str], given: Sequence[str] = (), config_dir: Path | None = None
) -> tuple[str, ...]:
    """The overrides of the first smoke recipe that these techniques fit, then the given ones; those alone where they
    choose an experiment. Raises ConfigError if none fits, with the reason."""
    if any(parse_key(override) == "experiment" for override in given):
        build_small(given, techniques, config_dir)
        return tuple(given)
    reasons: dict[str, str] = {}  # why -> the recipe
    for experiment in (name for name in list_options("experiment") if name.startswith("smoke")):
        for optimizer in _OPTIMIZERS:
            overrides = merge_overrides((f"experiment={experiment}", *optimizer), given)
            try:
                build_small(overrides, techniques, config_dir)
            except ConfigError as error:
                reasons.setdefault(str(error), f"experiment={experiment} {' '.join(optimizer)}")
            else:
                return overrides
    if len(reasons) == 1:  # not the recipe's fault
        raise ConfigError(next(iter(reasons)))
    raise ConfigError(
        f"technique={'+'.join(techniques)}: fits none of the smoke recipes; give one that it fits, experiment=NAME. "
        + "; ".join(f"{recipe}: {why}" for why, recipe in reasons.items())
    )

"""Train in process, from overrides to final weights: what the conformance and golden tests are made of."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from paribus.conformance.trainings import TrainingResult as Result
from paribus.conformance.trainings import Trial, make_subject, result_in, timeless, workbench
from paribus.engine.distributed import World
from paribus.engine.stop import StopRequest
from paribus.recipe.configs import find_config_folder, list_options
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.recipe.smoke import QUIET, build_small, compose_small
from paribus.runs.train import train

__all__ = ["QUIET", "Result", "build_recipe", "result_in", "timeless", "workbench"]  # beside what is defined here


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)  # type: ignore[return-value]


def recipe_of(*overrides: str, techniques: tuple[str, ...] = ()) -> Recipe:
    return build_small(overrides, techniques)


# every overlay alone, and the combinations that people will ask for first
OVERLAYS: list[tuple[str, ...]] = [() if name == "baseline" else (name,) for name in list_options("technique")]
OVERLAYS += [("cutmix", "adamp"), ("cutmix", "rexnet"), ("pit", "adamp", "cutmix"), ("cgl", "adamp")]
OVERLAYS += [("rebias", "adamp"), ("relabel", "cutmix"), ("pcme", "adamp"), ("calm", "cutmix")]
OVERLAYS += [("fsmr", "ggdr"), ("fsmr", "adamp"), ("ggdr", "adamp")]


@functools.cache
def subject_of(techniques: tuple[str, ...]) -> Trial:
    """On the first smoke recipe that these techniques fit, looked for once a process: 4 s where only the last one
    does."""
    return make_subject(techniques)


def smoke_recipe_for(techniques: tuple[str, ...]) -> list[str]:
    """The overrides of a smoke recipe that these techniques fit."""
    return list(subject_of(techniques).overrides)


def run(runs: Path, *overrides: str, techniques: tuple[str, ...] = ()) -> tuple[int, Path]:
    """Train a recipe under `runs`; its exit code and folder."""
    cfg = compose_small((*overrides, f"paths.runs={runs}"), techniques)
    code = train(cfg, list(techniques))
    return code, build_recipe(cfg, list(techniques)).folder


def trained(runs: Path, *overrides: str, techniques: tuple[str, ...] = ()) -> Result:
    """Train a recipe under `runs` and read the result back from its folder."""
    code, folder = run(runs, *overrides, techniques=techniques)
    return result_in(folder, code)


def stopping_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ask the next run to stop after this many of its steps, as SIGTERM would; not the one after it."""
    taken = [0]

    def agreed(self: StopRequest, world: World, device: torch.device, now: bool) -> bool:
        taken[0] += 1
        return taken[0] == steps

    monkeypatch.setattr(StopRequest, "should_stop", agreed)

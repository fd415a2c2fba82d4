"""Train in process, from overrides to final weights: what the conformance and golden tests are made of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from paribus.core.errors import ConfigError
from paribus.core.protocols import DataSets, DeviceContext, Method
from paribus.engine.agreement import collect_values
from paribus.engine.distributed import World
from paribus.engine.receipt import read
from paribus.engine.stop import StopRequest
from paribus.recipe.build import build_method, make_device_context
from paribus.recipe.configs import find_config_folder, list_options
from paribus.recipe.overlays import overlay_rule
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.runs.train import train

QUIET = ["tracker=events", "runtime.threads=1", "runtime.device=cpu"]
VOLATILE = ("time/", "throughput/", "memory/")


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)  # type: ignore[return-value]


def _with_technique(overrides: tuple[str, ...], techniques: tuple[str, ...]) -> dict[str, Any]:
    """The config with these overlays, at the settings they name for tiny images unless the overrides say others."""
    choice = f"technique=[{','.join(techniques) or 'baseline'}]"
    rules = composed(choice)["overlays"]
    checks = [overlay_rule(name, rule).check for name, rule in rules.items()]
    small = [f"{path}={value}" for check in checks for path, value in check.small.items()]
    return composed(*QUIET, *small, *overrides, choice)


def recipe_of(*overrides: str, techniques: tuple[str, ...] = ()) -> Recipe:
    return build_recipe(_with_technique(overrides, techniques), list(techniques))


# every overlay alone, and the combinations that people will ask for first
OVERLAYS: list[tuple[str, ...]] = [() if name == "baseline" else (name,) for name in list_options("technique")]
OVERLAYS += [("cutmix", "adamp"), ("cutmix", "rexnet"), ("pit", "adamp", "cutmix")]


def smoke_recipe_for(techniques: tuple[str, ...]) -> list[str]:
    """The overrides of a smoke recipe that these techniques fit."""
    for experiment in list_options("experiment"):
        for optimizer in (["optimizer=adamw"], ["optimizer=sgd", "optimizer.lr=0.1"]):
            overrides = [f"experiment={experiment}", *optimizer]
            if experiment.startswith("smoke"):
                try:
                    recipe_of(*overrides, techniques=techniques)
                except ConfigError:
                    continue
                return overrides
    raise AssertionError(f"no smoke recipe fits {techniques}")


@dataclass(frozen=True)
class Result:
    code: int
    folder: Path
    events: list[dict[str, Any]]
    weights: dict[str, Tensor]
    receipt: dict[Any, Any]  # losses, gradient norms, and checksums of the weights

    def same_as(self, other: "Result") -> bool:
        """Bit-identical weights, losses and gradient norms, and events but for clocks."""
        return (
            self.weights.keys() == other.weights.keys()
            and all(torch.equal(w, other.weights[name]) for name, w in self.weights.items())
            and timeless(self.events) == timeless(other.events)
            and self.receipt == other.receipt
        )


def timeless(events: list[dict[str, Any]]) -> list[Any]:
    return [(e["step"], {k: v for k, v in e["values"].items() if not k.startswith(VOLATILE)}) for e in events]


def result_in(folder: Path, code: int = 0) -> Result:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    newest = sorted((folder / "checkpoints").glob("step_*.pt"))[-1]
    state = torch.load(newest, weights_only=True)
    told = collect_values(read(folder / "receipts.jsonl"))
    told = {key: value for key, value in told.items() if key[2] != "optimizer"}  # whose state has names of its own
    return Result(code, folder, events, state["method"]["model"], told)


def run(runs: Path, *overrides: str, techniques: tuple[str, ...] = ()) -> tuple[int, Path]:
    """Train a recipe under `runs`; its exit code and folder."""
    cfg = _with_technique((*overrides, f"paths.runs={runs}"), techniques)
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


def workbench(recipe: Recipe) -> tuple[DataSets, Method, DeviceContext]:
    """Data and method of a recipe on the CPU, without a run folder."""
    place = make_device_context(recipe, torch.device("cpu"), World())
    data = recipe.data(place)
    return data, build_method(recipe, data, place), place

"""Any technique, a third party's too: a training step with it beside a step of the same recipe without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from paribus.bench.harness.implementation import Case, Implementation, PreparedImplementation, Scope
from paribus.core.progress import Progress
from paribus.engine.distributed import World
from paribus.recipe.build import build_loader, build_method, make_device_context
from paribus.recipe.smoke import build_small, find_smoke_recipe

_BATCHES = 8  # made before any timing, so that the loader's time is in neither
_STEPS = 10**6  # for the schedule: so many that the learning rate stays as it is


def cases(name: str, config_dir: Path | None, scope: Scope) -> Iterator[Case]:
    """On the first smoke recipe that the technique fits. Raises ConfigError if there is none."""
    overrides = find_smoke_recipe((name,), (), config_dir)
    without = f"{overrides[0]} without it"

    def prepare(techniques: tuple[str, ...]) -> Callable[[], PreparedImplementation]:
        return lambda: _prepare_step(overrides, techniques, config_dir, scope.device)

    yield Case(
        name,
        f"A training step with {name}, {overrides[0]}",
        work="One optimizer step: transforms, forward, backward and update, on a batch that is there already.",
        truth="0 where the loss is finite",
        tolerance=0.0,
        implementations=(
            Implementation(f"technique={name}", "paribus", prepare((name,)), "ours"),
            Implementation(without, "paribus", prepare(()), "floor"),
        ),
        baseline=without,
        samples=build_small(overrides, (name,), config_dir).batch_size,
    )


def _prepare_step(
    overrides: tuple[str, ...], techniques: tuple[str, ...], config_dir: Path | None, device: torch.device
) -> PreparedImplementation:
    recipe = build_small(overrides, techniques, config_dir)
    place = make_device_context(recipe, device, World())
    data = recipe.data(place)
    method, loader = build_method(recipe, data, place), build_loader(recipe, data, place)
    batches = [loader.batch(step) for step in range(_BATCHES)]
    taken = [0]

    def step() -> object:
        taken[0] += 1
        at = Progress(taken[0], _STEPS, recipe.seed, loader.steps_per_epoch)
        return method.train_step(batches[taken[0] % _BATCHES], at)["train/loss"]

    def error() -> float:
        return 0.0 if bool(torch.isfinite(torch.as_tensor(step()))) else math.inf

    return PreparedImplementation(error, step)

"""`paribus bench start`: what runs in each fresh process, up to the first step. Imports nothing heavy at the top."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.bench.harness.page import Found

RECIPE = ("experiment=cifar10_resnet18", "technique=cutmix")
SMALL = ("experiment=quickstart", "technique=cutmix")


def first_step(overrides: list[str], device: str) -> None:
    """Train one step and print the seconds of each phase as JSON."""
    seconds: dict[str, float] = {}
    begun = since = time.perf_counter()

    def done(phase: str) -> None:
        nonlocal since
        now = time.perf_counter()
        seconds[phase], since = now - since, now

    import torch

    done("import torch")
    from paribus.core.progress import Progress
    from paribus.engine.distributed import World
    from paribus.engine.runtime import prepare
    from paribus.recipe.build import loader_from, method_from, place_of
    from paribus.recipe.compose import composed
    from paribus.recipe.recipe import recipe_from

    done("import paribus's command line")
    asked = [o.partition("=")[2] for o in overrides if o.startswith("technique=")]
    recipe = recipe_from(composed([*overrides, f"runtime.device={device}", "tracker=events"]), asked)
    done("compose and check the config")
    place = place_of(recipe, prepare(recipe.runtime, World()), World())
    data = recipe.data(place)
    loader = loader_from(recipe, data, place)
    done("load the data")
    method = method_from(recipe, data, place)
    done("make network and optimizer")
    metrics = method.train_step(loader.batch(0), Progress(0, 100, 0, loader.steps_per_epoch))
    float(torch.as_tensor(metrics["train/loss"]))
    done("first step")
    print(json.dumps({**seconds, "in all": time.perf_counter() - begun}))


def measure(device: Any, quick: bool, rounds: int, tell: Callable[[str], None]) -> "Found":
    from paribus.bench.harness.measure import measure as measured
    from paribus.bench.harness.page import Found
    from paribus.bench.start.cases import commands, phases

    cifar = Path(os.environ.get("PARIBUS_DATA") or "data") / "cifar-10-batches-py"
    recipes = [SMALL] if quick else [SMALL, RECIPE] if cifar.is_dir() else [SMALL]
    left_out = [] if RECIPE in recipes or quick else ["No CIFAR-10 here (PARIBUS_DATA), so its phases are left out."]
    tell("processes from call to exit")
    results = [measured(commands(), device, rounds, 0.0)]
    results += [phases(recipe, device, rounds, tell) for recipe in recipes]
    return Found("Starting", results, left_out)

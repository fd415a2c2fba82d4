"""`paribus bench start`: what runs in each fresh process, up to the first step. Imports nothing heavy at the top."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paribus.bench.harness.page import BenchReport

RECIPE = ("experiment=cifar10_resnet18", "technique=cutmix")
SMALL = ("experiment=quickstart", "technique=cutmix")


def first_step(overrides: list[str], device: str) -> None:
    """Train one step and print the seconds of each phase as JSON."""
    seconds: dict[str, float] = {}
    start = since = time.perf_counter()

    def record_phase(phase: str) -> None:
        nonlocal since
        now = time.perf_counter()
        seconds[phase], since = now - since, now

    import torch

    record_phase("import torch")
    from paribus.core.progress import Progress
    from paribus.engine.distributed import World
    from paribus.engine.runtime import apply_runtime
    from paribus.recipe.build import build_loader, build_method, make_device_context
    from paribus.recipe.compose import compose_config
    from paribus.recipe.recipe import build_recipe

    record_phase("import paribus's command line")
    technique_names = [o.partition("=")[2] for o in overrides if o.startswith("technique=")]
    recipe = build_recipe(compose_config([*overrides, f"runtime.device={device}", "tracker=events"]), technique_names)
    record_phase("compose and check the config")
    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    data = recipe.data(place)
    loader = build_loader(recipe, data, place)
    record_phase("load the data")
    method = build_method(recipe, data, place)
    record_phase("make network and optimizer")
    metrics = method.train_step(loader.batch(0), Progress(0, 100, 0, loader.steps_per_epoch))
    float(torch.as_tensor(metrics["train/loss"]))
    record_phase("first step")
    print(json.dumps({**seconds, "in all": time.perf_counter() - start}))


def measure(device: Any, quick: bool, rounds: int, log: Callable[[str], None]) -> "BenchReport":
    from paribus.bench.harness.measure import measure as measure_case
    from paribus.bench.harness.page import BenchReport
    from paribus.bench.start.cases import make_process_case, measure_phases

    cifar = Path(os.environ.get("PARIBUS_DATA") or "data") / "cifar-10-batches-py"
    recipes = [SMALL] if quick else [SMALL, RECIPE] if cifar.is_dir() else [SMALL]
    left_out = [] if RECIPE in recipes or quick else ["No CIFAR-10 here (PARIBUS_DATA), so its phases are left out."]
    log("processes from call to exit")
    results = [measure_case(make_process_case(), device, rounds, 0.0)]
    results += [measure_phases(recipe, device, rounds, log) for recipe in recipes]
    return BenchReport("Starting", results, left_out)

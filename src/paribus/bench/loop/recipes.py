"""`paribus bench loop`: recipes prepared for paribus.bench.loop.cases, and its tables."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from paribus.bench.harness.measure import Result
from paribus.bench.loop.cases import (
    LoopTiming,
    PlainTraining,
    Subject,
    Training,
    build_mixing_result,
    compute_shares,
    measure_loop,
    time_loop,
)
from paribus.bench.loop.stages import PARTS, StageTimer, TimedObjective, TimedOptimizer, TimedTransform, TimedUpdate
from paribus.core.duration import in_steps
from paribus.core.formatting import format_duration
from paribus.core.protocols import DataSets
from paribus.engine.distributed import World
from paribus.engine.loop import RunSettings, StepIntervals
from paribus.engine.runtime import apply_numerics, compile_model
from paribus.methods.supervised import SupervisedTraining
from paribus.recipe.build import build_loader, build_method, count_steps, make_device_context
from paribus.recipe.compose import compose_config
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.tracking.events import Events

# title, overrides, fraction of the bare rate that the loop should reach, seconds per slice
SMALLEST = ("convnet_tiny, 12 px, batch 32", ("experiment=smoke", "every.log=50ba"), 0.95, 0.3)
RESNET18 = ("ResNet-18, 32 px, batch 128", ("experiment=cifar10_resnet18", "every.log=50ba"), 0.99, 1.0)
MADE_UP = ("data=synthetic", "data.size=32", "data.n=4096", "data.pad=4", "data.flip=true")
# each beside the recipe as it is, on CUDA
SWITCHES: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "prefetch off": ("runtime.prefetch=false",),
    "channels_last off": ("runtime.channels_last=false",),
    "tf32": ("runtime.tf32=true",),
    "bf16": ("update.precision=bf16",),
    "fused optimizer": ("runtime.fused=true",),
    "compile": ("runtime.compile=true",),
    "compile, CUDA graphs": ("runtime.compile=reduce-overhead",),
    "bf16, fused, CUDA graphs": (
        *("update.precision=bf16", "runtime.fused=true", "runtime.compile=reduce-overhead"),
        "runtime.tf32=true",
    ),
}
METHODOLOGY = (
    "The loop is the one that trains, with its loader and its record in a temporary run folder; one that does not move "
    "the weights as plain PyTorch does is not timed. Where it asks for the first batch of a slice of steps, the bare "
    "step (clear gradients, forward, cross entropy, backward, optimizer) on one fixed batch first has a slice of its "
    "own: a round. Times are of a step, medians over the rounds, beside them the middle half; ratios are medians of "
    "the rounds' ratios. Evaluation and checkpoints are not among these steps."
)
PART_WORDS = (
    "One row a recipe: median time a step in each part of the loop, watched one by one. data: waiting for the loader, "
    "which crops, mirrors and normalises on the device where the set lies, so that nothing is left to transfer. "
    "transforms: techniques on the batch, such as CutMix. record: writing log lines. rest: schedule, seeds, sums, "
    "signals, and reading the device at a log line. On CUDA each part waits for the device, so nothing overlaps here."
)


def make_subject(
    title: str, overrides: tuple[str, ...], at_least: float, device: torch.device, data: DataSets
) -> Subject:
    """The recipe of these overrides on data that is already loaded."""
    recipe = _compose_recipe(overrides)

    def make(steps: int, stages: StageTimer | None) -> Training:
        return build_training(replace(recipe, steps=f"{steps}ba"), data, device, stages)

    words = f"Training steps of `{' '.join(overrides)}` on {data.sizes['train']:,} images, logged every 50 steps."
    return Subject(title, words, recipe.batch_size, device, at_least, make)


def _compose_recipe(overrides: tuple[str, ...]) -> Recipe:
    technique_names = [o.removeprefix("technique=") for o in overrides if o.startswith("technique=")]
    return build_recipe(compose_config([*overrides, "tracker=events"]), technique_names)


def build_training(recipe: Recipe, data: DataSets, device: torch.device, stages: StageTimer | None) -> Training:
    """Everything built anew, as `paribus train` does, and the same network once more for the plain step.

    The recipe's numerics (tf32, deterministic) hold in this process from here on, until those of the next recipe.
    """
    apply_numerics(recipe.runtime)
    place = make_device_context(recipe, device, World())
    raw = data.loader(recipe.batch_size, recipe.seed)
    method = build_method(recipe if stages is None else with_timed_parts(recipe, stages), data, place)
    twin = build_method(recipe, data, place)
    assert isinstance(method, SupervisedTraining)
    assert isinstance(twin, SupervisedTraining)
    total = count_steps(recipe, raw.steps_per_epoch)
    every = StepIntervals(in_steps(recipe.every.log, raw.steps_per_epoch), total, total)
    precision: Any = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(getattr(recipe.update, "precision", ""))

    def autocast() -> Any:
        return nullcontext() if precision is None else torch.autocast(device.type, precision)

    def run(folder: Path) -> RunSettings:
        return RunSettings(folder, recipe.id, total, recipe.seed, every, 1, World(), device)

    return Training(
        run=run,
        method=method,
        loader=build_loader(recipe, data, place),
        data=raw,
        weights=lambda: list(method.model.parameters()),
        plain=PlainTraining(compile_model(twin.model.train(), recipe.runtime.compile), twin.optimizer, autocast),
        schedule=recipe.schedule,
        tracker=lambda folder: Events()(folder, 0, total),
        stages=stages,
    )


def with_timed_parts(recipe: Recipe, stages: StageTimer) -> Recipe:
    """The recipe with its parts timed."""
    return replace(
        recipe,
        transforms={name: t and TimedTransform(stages, t) for name, t in recipe.transforms.items()},
        objective=TimedObjective(stages, recipe.objective),
        optimizer=TimedOptimizer(stages, recipe.optimizer),
        update=TimedUpdate(stages, recipe.update),
    )


def load_data(overrides: tuple[str, ...], device: torch.device) -> tuple[tuple[str, ...], DataSets]:
    """The overrides with CIFAR-10 if PARIBUS_DATA has it, else with synthetic pixels of its size; and the data."""
    cifar_folder = Path(os.environ.get("PARIBUS_DATA") or "data") / "cifar-10-batches-py"
    if "experiment=smoke" not in overrides and not cifar_folder.is_dir():
        overrides = (*overrides, *MADE_UP)
    recipe = _compose_recipe(overrides)
    return overrides, recipe.data(make_device_context(recipe, device, World()))


def measure(
    device: torch.device, quick: bool, rounds: int, log: Callable[[str], None]
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Results, and further tables for the page."""
    results: list[Result] = []
    lines: list[list[str]] = []
    tables = [{"title": "Where a step's time goes", "text": PART_WORDS, "columns": _COLUMNS, "lines": lines}]
    for title, overrides, at_least, min_seconds in (SMALLEST,) if quick else (SMALLEST, RESNET18):
        overrides, data = load_data(overrides, device)
        log(title)
        results.append(measure_loop(make_subject(title, overrides, at_least, device, data), rounds, min_seconds))
        for extra in ((), ("technique=cutmix",)):
            label = f"{title}, {extra[0].partition('=')[2]}" if extra else title
            log(f"{label}, part by part")
            one = make_subject(label, (*overrides, *extra), at_least, device, data)
            timing = time_loop(one, max(3, rounds // 2), min_seconds, watched=True)
            lines.append(_format_parts_line(label, timing))
            if extra:
                results.append(build_mixing_result(one, timing))
        if device.type == "cuda":
            tables.append(_measure_switches(title, overrides, device, rounds, min_seconds, log))
    return results, tables


_COLUMNS = ["recipe", *PARTS, "rest", "whole step", "bare step"]


def _format_parts_line(title: str, timing: LoopTiming) -> list[str]:
    seconds_by_part = compute_shares(timing)
    cells = [
        f"{format_duration(seconds_by_part[part])} ({seconds_by_part[part] / seconds_by_part['whole']:.1%})"
        for part in (*PARTS, "rest")
    ]
    return [
        title,
        *cells,
        format_duration(seconds_by_part["whole"]),
        format_duration(sorted(timing.bare)[len(timing.bare) // 2]),
    ]


def _measure_switches(
    title: str,
    overrides: tuple[str, ...],
    device: torch.device,
    rounds: int,
    min_seconds: float,
    log: Callable[[str], None],
) -> dict[str, Any]:
    def lines() -> Iterator[list[str]]:
        for name, extra in SWITCHES.items():
            log(f"{title}, {name}")
            changed, data = load_data((*overrides, *extra), device)  # the layout of inputs is the data's
            result = measure_loop(make_subject(title, changed, 0.95, device, data), max(3, rounds // 2), min_seconds)
            loop, bare = result.rows
            if not loop.seconds:
                yield [name, "", "", "", f"{loop.status}, error {loop.error:.1e}"]
                continue
            rate = 1 / (result.verdicts[0].ratio or 1)
            batch = result.case.samples
            yield [name, f"{batch / loop.median:,.0f}", f"{batch / bare.median:,.0f}", f"{rate:.3f}", ""]

    return {
        "title": f"Switches, {title}",
        "text": "Each alone beside the recipe as it is, the last ones together.",
        "columns": ["switch", "loop, images/s", "bare step, images/s", "loop / bare", "note"],
        "lines": list(lines()),
    }

"""Training steps of a recipe on a device, for the checks: built as `paribus train` does, without a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, Loader, Method
from paribus.core.streams import stream
from paribus.data.cifar import Cifar
from paribus.data.images import ImageSet
from paribus.data.loaders.in_memory import Images, build_in_memory_sets
from paribus.data.loaders.settings import build_input_spec
from paribus.data.synthetic import Synthetic
from paribus.data.trees.manifest import load_manifest
from paribus.data.trees.names import FOLDER
from paribus.engine.distributed import World
from paribus.engine.runtime import Runtime, apply_runtime, seed_global_generators
from paribus.recipe.build import build_loader, build_method, make_device_context
from paribus.recipe.compose import compose_config
from paribus.recipe.recipe import Recipe, build_recipe

ALONE = World()
DISTINCT = 64  # made-up images; drawing a gigabyte of them would take longer than the steps


def compose(*overrides: str) -> Recipe:
    """Raises ConfigError, also where a technique does not fit."""
    config = compose_config([*overrides, "tracker=events"])
    return build_recipe(config, list(config.get("overlays") or {}))


@contextmanager
def runtime_applied(runtime: Runtime, device: torch.device) -> Iterator[None]:
    """The settings in effect on this device, and afterwards what was before: several recipes share this process."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    current = torch.cuda.current_device() if device.type == "cuda" else None
    try:
        apply_runtime(replace(runtime, device=str(device), threads=threads), ALONE)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = cudnn
        if deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(deterministic)
        if current is not None:
            torch.cuda.set_device(current)
        if runtime.compile:  # dynamo compiles the code of a layer eight times, for whatever net, and then no more
            torch.compiler.reset()


@dataclass(frozen=True)
class Prepared:
    """A recipe whose steps can be taken. total: steps of the whole training, for the schedule."""

    recipe: Recipe
    device: torch.device
    data: DataSets
    loader: Loader
    method: Method
    total: int

    def take(self, step: int) -> dict[str, Any]:
        """One step, as the loop takes it; the metrics stay on the device."""
        at = Progress(step, self.total, self.recipe.seed, self.loader.steps_per_epoch)
        seed_global_generators(at, ALONE, self.device)
        return self.method.train_step(self.loader.batch(step), at)

    @property
    def weights(self) -> list[Tensor]:
        model: Any = getattr(self.method, "model", None)
        return [p.detach() for p in model.parameters()]


def prepare(recipe: Recipe, device: torch.device, total: int) -> Prepared:
    """Inside of `runtime_applied`."""
    recipe = replace(recipe, steps=f"{total}ba")
    place = make_device_context(recipe, device, ALONE)
    data = recipe.data(place)
    return Prepared(recipe, device, data, build_loader(recipe, data, place), build_method(recipe, data, place), total)


@dataclass(frozen=True)
class Trajectory:
    """losses: (steps,) float64. weights: after the last step. Both on the CPU."""

    losses: Tensor
    weights: list[Tensor]


def train_some(recipe: Recipe, device: torch.device, steps: int) -> Trajectory:
    with runtime_applied(recipe.runtime, device):
        prepared = prepare(recipe, device, steps)
        losses = [prepared.take(step)["train/loss"] for step in range(steps)]
        return Trajectory(torch.stack(losses).double().cpu(), [w.cpu() for w in prepared.weights])


@dataclass(frozen=True)
class RandomPixels:
    """A recipe's data without its files: random pixels of the pack's size, cropped and changed as the recipe says, so
    that the device does what it does in training. like: the recipe's data. n: images."""

    like: ImageSet
    n: int

    def __call__(self, place: DeviceContext) -> DataSets:
        known = 10 if self.like.name == FOLDER else len(load_manifest(self.like.name).classes)
        classes = min(known, self.n)  # no class without an image
        side = max(self.like.pack_size, self.like.size)
        shape = (min(self.n, DISTINCT), side, side, 3)
        pixels = torch.randint(0, 256, shape, generator=stream(0, "doctor.pixels"), dtype=torch.uint8)
        rows = torch.arange(self.n)
        images = Images(pixels, rows % classes, rows, rows % len(pixels))
        spec = build_input_spec(self.like)
        return build_in_memory_sets("random pixels", images, images, classes, spec, place, None, 0, keep="device")


def without_files(recipe: Recipe, batch_size: int, n: int) -> Recipe:
    """The recipe on made-up images of its size. n: images, at least a batch."""
    data: Any = recipe.data
    if isinstance(data, ImageSet):
        data = RandomPixels(data, max(n, batch_size))
    elif isinstance(data, Cifar):
        classes = 10 if data.name == "cifar10" else 100
        kept: dict[str, Any] = {key: getattr(data, key) for key in ("size", "pad", "flip", "augment")}
        data = Synthetic(classes=classes, n=max(n, batch_size), val_n=classes, **kept)
    elif isinstance(data, Synthetic):
        data = replace(data, n=max(n, batch_size))
    return replace(recipe, data=data, batch_size=batch_size)

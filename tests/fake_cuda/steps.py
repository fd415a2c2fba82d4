"""One real step of a case on the fake device, after a step of warm-up; and one evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fake_cuda.appearance import cuda_appears
from fake_cuda.cases import Case, recipe_of
from fake_cuda.device import Count, FakeDevice
from fake_cuda.stand_ins import blank_data
from paribus.core.evaluation import make_context
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, DeviceContext, Loader, Method, Transform
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.runtime import seed_global_generators
from paribus.engine.window import MetricAccumulator
from paribus.recipe.build import build_evaluators, build_loader, build_method, build_transforms, make_device_context
from paribus.recipe.recipe import Recipe

CUDA = torch.device("cuda", 0)
PARTS = ("batch", "transforms", "step", "optimizer")


@dataclass(frozen=True)
class Bench:
    """A recipe's parts on the fake device."""

    device: FakeDevice
    recipe: Recipe
    world: World
    place: DeviceContext
    data: DataSets
    loader: Loader
    method: Method
    transforms: Mapping[str, Transform]

    def at(self, step: int) -> Progress:
        return Progress(step, 100, self.recipe.seed, self.loader.steps_per_epoch)


@contextmanager
def on_fake_cuda(case: Case, *more: str) -> Iterator[Bench]:
    """The case, built on the fake device as `paribus train` builds it. more: further overrides."""
    recipe = recipe_of(case, *more)
    world = World(0, case.world, 0, case.world)
    device = FakeDevice()
    with cuda_appears(device.wait), blank_data(train_images=5 * recipe.batch_size), device:
        place = make_device_context(recipe, CUDA, world)
        data = recipe.data(place)
        loader = build_loader(recipe, data, place)
        method, transforms = build_method(recipe, data, place), build_transforms(recipe, data, place)
        yield Bench(device, recipe, world, place, data, loader, method, transforms)


def measure(case: Case) -> dict[str, Count]:
    """Of the second step: `batch` (the loader: crops, augmentation, normalisation), `transforms` (the techniques' own
    work on a batch, done once more by itself), `step` (all of train_step) and `optimizer` (its part of the step)."""
    with on_fake_cuda(case) as bench:
        window = MetricAccumulator(bench.world, CUDA)
        for step in range(2):
            counts = _take_step(bench, window, step)
    return counts


def _take_step(bench: Bench, window: MetricAccumulator, step: int) -> dict[str, Count]:
    device, at = bench.device, bench.at(step)
    seed_global_generators(at, bench.world, CUDA)
    with device.count() as in_batch:
        batch = bench.loader.batch(step)
    with device.count() as in_transforms:
        changed = batch
        for transform in bench.transforms.values():
            changed = transform(changed, at)
    with device.count() as in_step, _counting_optimizer(bench) as in_optimizer:
        metrics = bench.method.train_step(batch, at)
        window.add(metrics, batch.size)
    tensors = {"inputs": batch.inputs, "targets": batch.targets, "ids": batch.ids, "positions": batch.positions}
    for name, value in {**tensors, **metrics}.items():
        told = "; ".join([*in_batch.waits, *in_step.waits]) or "made there, or by a copy that does not wait"
        assert not isinstance(value, Tensor) or value.device == CUDA, f"{name} is on {value.device}: {told}"
    return dict(zip(PARTS, (in_batch, in_transforms, in_step, in_optimizer), strict=True))


@contextmanager
def _counting_optimizer(bench: Bench) -> Iterator[Count]:
    """Counts while the method's optimizer takes its step."""
    optimizer: torch.optim.Optimizer = bench.method.optimizer  # type: ignore[attr-defined]
    total, open_counts = Count(), []

    def begin(*_: object) -> None:
        counting = bench.device.count()
        open_counts.append((counting, counting.__enter__()))

    def end(*_: object) -> None:
        counting, count = open_counts.pop()
        counting.__exit__(None, None, None)
        total.launches, total.bytes = total.launches + count.launches, total.bytes + count.bytes
        total.waits += count.waits

    handles = optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()


def measure_evaluation(case: Case, *more: str) -> tuple[Count, int]:
    """Of the second evaluation after a step, and how many splits it covers. The first brings pixels to the device."""
    with on_fake_cuda(case, *more) as bench:
        bench.method.train_step(bench.loader.batch(0), bench.at(0))
        evaluators, context = build_evaluators(bench.recipe, bench.data), make_context(bench.data, bench.place)
        evaluate(bench.method, evaluators, bench.data.splits, context)
        with bench.device.count() as count:
            evaluate(bench.method, evaluators, bench.data.splits, context)
    return count, len(bench.data.splits)

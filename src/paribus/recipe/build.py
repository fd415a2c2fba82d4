"""From a checked recipe to what trains: data and loader, the method with its networks, evaluators.

A mistake that shows only here is still told as one of the config, before a run folder is made.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.protocols import (
    Checks,
    DataSets,
    Evaluator,
    Loader,
    Method,
    ModelFactory,
    Place,
    Slots,
    Workshop,
)
from paribus.engine import distributed
from paribus.engine.prefetch import Ahead
from paribus.engine.runtime import compiled, initialised
from paribus.methods.optimizers import Switched
from paribus.models.groups import decay_groups
from paribus.recipe.recipe import Recipe


@contextmanager
def building(part: str) -> Iterator[None]:
    """Whatever goes wrong while something is made from a checked config is still the config's fault, or its class's."""
    try:
        yield
    except (ConfigError, RunFailed):
        raise
    except Exception as error:
        what = next(iter(str(error).splitlines()), "")
        raise ConfigError(f"{part}: cannot be made from this config: {type(error).__name__}: {what[:300]}") from error


def place_of(recipe: Recipe, device: torch.device, world: distributed.World) -> Place:
    return Place(device, recipe.update.dtype, recipe.runtime.memory_format, world.rank, world.size)


def loader_from(recipe: Recipe, data: DataSets, place: Place) -> Loader:
    """The training loader; on CUDA it makes the next batch while a step runs."""
    loader = data.loader(recipe.batch_size, recipe.seed)
    if not recipe.runtime.prefetch or place.device.type != "cuda":
        return loader
    return Ahead(loader, place.device, steps_of(recipe, loader.steps_per_epoch))


def method_from(recipe: Recipe, data: DataSets, place: Place) -> Method:
    """The method with its networks on the device, initialised from the seed's streams."""
    share = recipe.batch_size // place.world
    accumulate = getattr(recipe.update, "accumulate", 1)
    if share % accumulate:
        raise ConfigError(
            f"update.accumulate: found {accumulate}; {share} images a process do not divide into that many parts"
        )

    for transform in recipe.transforms.values():
        if isinstance(transform, Checks):
            transform.check(data.spec)

    def make(factory: ModelFactory, name: str) -> torch.nn.Module:
        model = initialised(lambda: factory(data.spec), recipe.seed, name)
        if recipe.runtime.sync_bn:
            model = distributed.with_shared_statistics(model, place.device)
        return model.to(place.device, place.dtype).to(memory_format=place.memory_format)

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        return compiled(distributed.wrapped(model, place.device), recipe.runtime.compile)

    slots = Slots(
        tuple(t for t in recipe.transforms.values() if t is not None),
        recipe.model,
        recipe.objective,
        Switched(recipe.optimizer, recipe.runtime.fused),
        recipe.schedule,
        recipe.update,
        recipe.ema,
    )
    return recipe.method(slots, Workshop(data.spec, place, make, wrap, decay_groups, distributed.sync_buffers))


def evaluation_from(recipe: Recipe, data: DataSets) -> list[Evaluator]:
    """The evaluators, once their splits are known to exist."""
    chosen = {name: e for name, e in recipe.evaluators.items() if e is not None}
    for name, evaluator in chosen.items():
        for split in getattr(evaluator, "splits", ()):
            if split not in data.splits:
                raise ConfigError(
                    f"evaluators.{name}.splits: found {split}; the data has {', '.join(data.splits)} "
                    "(data.minival=N carves a selection split)"
                )
    return list(chosen.values())


def steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    return in_steps(recipe.steps, steps_per_epoch)

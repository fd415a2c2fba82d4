"""From a checked recipe to what trains: data and loader, the method with its networks, evaluators.

An error that shows only here is still reported as one of the config, before a run folder is made.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from paribus.core.capabilities import list_networks
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, RunFailed, explain_exception
from paribus.core.evaluation import ChecksData, EvaluatorInContext, NeedsSplits
from paribus.core.meta import to_meta
from paribus.core.partners import PartnerPlan
from paribus.core.protocols import (
    BuildContext,
    Checks,
    CouplesSamples,
    DataSets,
    DeviceContext,
    Evaluator,
    FitsData,
    HasPartners,
    Loader,
    Method,
    ModelFactory,
    PreparesPartners,
    ReadsCrop,
    ReplacesTargets,
    ReportsCrop,
    SharesBatch,
    Slots,
    StartsFromFile,
    Transform,
    WrapsNetwork,
)
from paribus.engine import distributed
from paribus.engine.prefetch import PrefetchLoader
from paribus.engine.runtime import build_from_stream, check_graphs, compile_model
from paribus.engine.threads import share_cores
from paribus.interop.start_weights import load_start_weights
from paribus.interop.weight_files import read_weights
from paribus.methods.optimizers import FusedOptimizerFactory
from paribus.models.groups import decay_groups
from paribus.recipe.recipe import Recipe


@contextmanager
def explain_build_errors(part: str) -> Iterator[None]:
    """Any error while a part is built from a checked config is still the config's fault, or its class's."""
    try:
        yield
    except (ConfigError, RunFailed):
        raise
    except Exception as error:
        raise ConfigError(f"{part}: cannot be made from this config: {explain_exception(error)}") from error


def make_device_context(recipe: Recipe, device: torch.device, world: distributed.World) -> DeviceContext:
    cores = share_cores(world).count
    return DeviceContext(device, recipe.update.dtype, recipe.runtime.memory_format, world.rank, world.size, cores)


def build_loader(recipe: Recipe, data: DataSets, place: DeviceContext) -> Loader:
    """The training loader; on CUDA it makes the next batch while a step runs."""
    loader = data.loader(recipe.batch_size, recipe.seed)
    per_epoch = loader.steps_per_epoch
    total = count_steps(recipe, per_epoch)
    for name, transform in recipe.transforms.items():
        if isinstance(transform, ReadsCrop) and transform.reads_crop:
            if not isinstance(loader, ReportsCrop):
                raise ConfigError(
                    f"transforms.{name}: it needs the crop of each training image, and {type(loader).__name__} of this "
                    "data does not say it; give the loader report_crop (paribus.core.protocols.ReportsCrop)"
                )
            loader.report_crop()
    mixing = tuple(t for t in recipe.transforms.values() if isinstance(t, HasPartners))
    if mixing and place.world > 1 and isinstance(loader, PreparesPartners):
        loader.prepare_partners(PartnerPlan(mixing, recipe.batch_size, total, recipe.seed, per_epoch))
    if not recipe.runtime.prefetch or place.device.type != "cuda":
        return loader
    return PrefetchLoader(loader, place.device, total)


def build_transforms(recipe: Recipe, data: DataSets, place: DeviceContext, trains: bool = True) -> dict[str, Transform]:
    """By name and in order, what a step calls. trains: False where there is no step, so no file is read. Raises
    ConfigError if one does not fit the data."""
    chosen = {name: transform for name, transform in recipe.transforms.items() if transform is not None}
    if not trains:
        return chosen
    mixes = ""
    for name, transform in chosen.items():
        if mixes and isinstance(transform, ReplacesTargets) and transform.replaces_targets:
            raise ConfigError(
                f"transforms.{name}: it replaces the targets that transforms.{mixes} has mixed; name it before "
                f"{mixes} in `transforms`"
            )
        mixes = name if isinstance(transform, HasPartners) else mixes
    return {name: t.for_data(data, place) if isinstance(t, FitsData) else t for name, t in chosen.items()}


def build_method(
    recipe: Recipe,
    data: DataSets,
    place: DeviceContext,
    from_checkpoint: bool = False,
    trains: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Method:
    """The method with its networks on the device, initialised from the seed's streams, or from `init_from`.

    from_checkpoint: a checkpoint will replace the weights, so a file that a run starts from is not read. trains: False
    where it only predicts. say: is told in one line what was loaded from `init_from`.
    """
    local_batch_size = recipe.batch_size // place.world
    accumulate = getattr(recipe.update, "accumulate", 1)
    if local_batch_size % accumulate:
        raise ConfigError(
            f"update.accumulate: found {accumulate}; {local_batch_size} images a process do not divide into that many "
            "parts"
        )
    couples = [part for part in (recipe.method, recipe.objective) if couples_samples(part)]
    if couples and accumulate > 1:
        raise ConfigError(
            f"update.accumulate: found {accumulate}; {type(couples[0]).__name__} takes a batch whole, since its "
            "samples or its networks' steps depend on each other; use update.accumulate=1, and several processes for a "
            "larger batch"
        )
    if trains:
        check_graphs(recipe.runtime.compile, accumulate, place.device)

    for transform in recipe.transforms.values():
        if isinstance(transform, Checks):
            transform.check(data.spec)

    model = recipe.model
    if from_checkpoint and isinstance(model, StartsFromFile):
        model = model.without_file()
    wrapped = recipe.method.network_factory(model) if isinstance(recipe.method, WrapsNetwork) else None
    find_start, loaded = None if from_checkpoint else recipe.find_init_from, list[str]()
    start = read_weights(find_start(), recipe.init_from_sha256) if find_start else None

    def make(factory: ModelFactory, name: str) -> torch.nn.Module:
        made = build_from_stream(lambda: factory(data.spec), recipe.seed, name)
        # by value if wrapped, since it is made anew each time; only so, as a second network may have the same config
        if start is not None and (factory is model or (wrapped is not None and factory == wrapped)):
            source = f"{recipe.init_from}{start.where and f' ({start.where})'}"
            loaded.append(load_start_weights(made, start, source, data, recipe.init_strict))
        if recipe.runtime.sync_bn:
            made = distributed.convert_sync_batchnorm(made, place.device)
        return made.to(place.device, place.dtype).to(memory_format=place.memory_format)

    def wrap(model: torch.nn.Module) -> torch.nn.Module:
        # False of a module that is differentiated twice, as a compiled graph cannot be
        mode = recipe.runtime.compile if getattr(model, "compiles", True) else False
        return compile_model(distributed.wrap_ddp(model, place.device), mode)

    objective = recipe.objective
    if trains and isinstance(objective, FitsData):
        objective = objective.for_data(data, place)
    if trains and isinstance(objective, SharesBatch):
        objective = objective.over_ranks(distributed.gather_with_gradient)
    slots = Slots(
        tuple(build_transforms(recipe, data, place, trains).values()),
        model,
        objective,
        FusedOptimizerFactory(recipe.optimizer, recipe.runtime.fused),
        recipe.schedule,
        recipe.update,
        recipe.ema,
    )
    sync = distributed.sync_buffers
    context = BuildContext(
        data.spec,
        place,
        make,
        wrap,
        decay_groups,
        sync,
        data.class_ids,
        trains,
        data.mean,
        data.std,
        distributed.sum_with_gradient,
        distributed.gather_with_gradient,
        data.facts.get("train", ()),
        data.largest,
    )
    method = _with_new_verb(recipe.method(slots, context))
    if start is not None and not loaded:
        raise ConfigError(f"init_from: {type(method).__name__} makes no network of `model` that could start from it")
    for line in loaded[:1]:
        say(line)
    return method


def couples_samples(part: object) -> bool:
    return isinstance(part, CouplesSamples) and part.couples_samples


def _with_new_verb(method: Method) -> Method:
    """A user's method that still has `settle`, the name of `prepare_eval` up to 0.1, keeps working."""
    old = getattr(method, "settle", None)
    if old is not None:
        name = type(method).__name__
        warnings.warn(f"{name}.settle is now called prepare_eval; rename it", DeprecationWarning, stacklevel=2)
        setattr(method, "prepare_eval", old)  # noqa: B010 — not declared on the user's class
    return method


def check_normalisation(recipe: Recipe, method: Method, data: DataSets, place: DeviceContext) -> None:
    """Raise ConfigError if BatchNorm would see one value per channel, which has no variance: one image in a part of the
    batch, and one pixel left of it. Only the shapes tell, so such a network runs once without values."""
    parts = place.world * getattr(recipe.update, "accumulate", 1)
    if recipe.batch_size > parts:
        return
    if recipe.runtime.sync_bn and place.world > 1:  # the variance is over the images of all processes
        return
    spec = data.spec
    for network in list_networks(method).values():
        try:
            with torch.no_grad():
                image = torch.empty(1, spec.channels, spec.height, spec.width, dtype=place.dtype, device="meta")
                to_meta(network).train()(image)
        except Exception as error:  # a network that needs values is left to its first step
            if (wrong := explain_one_value(error, recipe)) is not None:
                raise ConfigError(wrong) from error


def explain_one_value(error: Exception, recipe: Recipe) -> str | None:
    """torch's refusal to normalise one value per channel as one of the config; None for another error."""
    if "Expected more than 1 value per channel when training" not in str(error):
        return None
    accumulate = getattr(recipe.update, "accumulate", 1)
    return (
        f"batch_size={recipe.batch_size}, update.accumulate={accumulate}: BatchNorm gets one value per channel, and "
        "needs two or more in training; choose a larger batch_size or a smaller update.accumulate, so that each "
        "process and part has at least 2 images"
    )


def build_evaluators(recipe: Recipe, data: DataSets) -> dict[str, Evaluator | EvaluatorInContext]:
    """The evaluators by name, once their splits are known to exist, with all that is asked of them."""
    chosen = {name: e for name, e in recipe.evaluators.items() if e is not None}
    for name, evaluator in chosen.items():
        wanted = [("splits", split) for split in getattr(evaluator, "splits", ())]
        for key, split in (*wanted, *list_needed_splits(evaluator).items()):
            if split not in data.splits:
                spared = "" if without_split(evaluator, key) is None else f"; evaluators.{name}.{key}=null does without"
                raise ConfigError(
                    f"evaluators.{name}.{key}: found {split}; the data has {', '.join(data.splits)} "
                    f"(data.minival=N holds out a selection split{spared})"
                )
        if isinstance(evaluator, ChecksData):
            evaluator.check_data(data)
    return chosen


def list_needed_splits(evaluator: Any) -> Mapping[str, str]:
    return evaluator.needed_splits if isinstance(evaluator, NeedsSplits) else {}


def without_split(evaluator: Any, key: str) -> Any:
    """The evaluator with null for the key that names a split; None if its class does not take that."""
    if key not in list_needed_splits(evaluator):
        return None
    try:
        return replace(evaluator, **{key: None})
    except ValueError:  # pydantic's refusal is one
        return None


def count_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    return in_steps(recipe.steps, steps_per_epoch)

"""The facts for the panel at the start of a run, gathered from a recipe and what was built from it."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, cast

import torch
from pydantic.fields import FieldInfo

from paribus.core.build import resolve
from paribus.core.capabilities import list_networks, list_parts
from paribus.core.generation import Generates
from paribus.core.protocols import DataSets, Method, Spec
from paribus.engine.loop import RunSettings
from paribus.models.macs import count_macs
from paribus.recipe.overlays import get_value
from paribus.recipe.recipe import Recipe
from paribus.runs.screen_text import LabeledText, RunDescription
from paribus.tracking.wandb import WandB, describe_mode

# Operations of a network whose MACs are counted: the largest here has 1,000. Not a time, since the thread count depends
# on the result, and must not on the load.
COUNTING_LIMIT = 20_000
_ALWAYS_SHOWN = ("lr", "momentum", "weight_decay")  # settings a reader wants to see at their defaults too
# where data lie says nothing about what is computed; of a file, its path and its network say enough
_NEVER_SHOWN = ("root", "download", "pack", "keep", "workers", "path_sha256", "weights_sha256", "inputs")


@dataclass(frozen=True)
class NetworkSize:
    """The parameters of all networks and the multiply-accumulates of one image, or the reason why they are not known.
    others: the parameters of each network but the recipe's model, by its name in the method."""

    parameters: int
    macs: int | str
    others: Mapping[str, int] = field(default_factory=dict)


def describe_run(
    recipe: Recipe,
    rules: Mapping[str, Any],
    run: RunSettings,
    data: DataSets,
    method: Method,
    size: NetworkSize,
    steps_per_epoch: int,
    start: int,
    origin: str = "",
) -> RunDescription:
    """rules: `overlays` of the composed config. origin: what the run starts from, in words."""
    spec, networks = data.spec, list_networks(method).values()
    groups = [group for part in list_parts(method).values() for group in part.groups]
    return RunDescription(
        title=recipe.title,
        name=recipe.name,
        seed=recipe.seed,
        techniques=tuple((name, format_technique(recipe, rules.get(name, {}))) for name in recipe.techniques),
        data=format_object(recipe.data),
        sizes=data.sizes,
        image=(spec.channels, spec.height, spec.width),
        classes=spec.classes,
        model=format_object(recipe.model),
        parameters=size.parameters - sum(size.others.values()),
        other_parameters=tuple(size.others.items()),
        macs=size.macs,
        # what a factory solved for, e.g. a width at matched MACs
        notes=tuple(note for network in networks for note in getattr(network, "notes", ())),
        decay=tuple((g.decays, len(g.parameters), sum(p.numel() for p in g.parameters)) for g in groups),
        optimizer=format_object(recipe.optimizer),
        schedule=format_object(recipe.schedule),
        others=(*_list_unusual_parts(recipe, rules), *([("starts from", origin)] if origin else [])),
        steps=run.total,
        steps_per_epoch=steps_per_epoch,
        batch_size=recipe.batch_size,
        device=_format_device(recipe, run.device),
        precision=getattr(recipe.update, "precision", "fp32"),
        threads=torch.get_num_threads(),
        processes=run.world.size,
        folder=str(run.folder),
        start=start,
        wandb=next((describe_mode(t, run.folder) for t in recipe.tracker.values() if isinstance(t, WandB)), ""),
    )


def measure_network_size(method: Method, spec: Spec, limit: int = COUNTING_LIMIT) -> NetworkSize:
    """Of all networks that the method trains. One that cannot be counted can still be trained."""
    networks = list_networks(method)
    if not networks:
        return NetworkSize(0, "not counted (no single network)")
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    parameters, others = sum(sizes.values()), {name: n for name, n in sizes.items() if name}
    macs = 0
    for name, network in networks.items():
        which = f"{name}: " if name else ""
        try:
            macs += count_macs(network, spec, limit)
        except OverflowError:
            return NetworkSize(parameters, f"not counted ({which}more than {limit:,} operations)", others)
        except Exception as error:  # anything in a network that does not work without values, or takes no images
            why = "it makes images" if isinstance(network, Generates) else type(error).__name__
            return NetworkSize(parameters, f"not counted ({which}{why})", others)
    return NetworkSize(parameters, macs, others)


def format_technique(recipe: Recipe, rule: Mapping[str, Any]) -> str:
    """What a technique put into the recipe: the classes it swapped in with the settings that those replaced did not
    have, or the settings of the object it added."""
    config, parts = recipe.config, list[str]()
    for path, swaps in rule.get("swap", {}).items():
        slot = path.removesuffix("._target_")
        node = cast(dict[str, Any], get_value(config, slot) or {})
        old = [replaced for replaced, new in swaps.items() if new == node.get("_target_")]
        known = {f.name for f in fields(cast(Any, resolve(old[0], path, recipe.packages)))} if old else set(node)
        parts.append(f"{slot}={_short_name(str(node.get('_target_')))}")
        parts += _format_main_settings(
            {key: value for key, value in node.items() if key not in known or key == "_target_"}, recipe
        )
    if not parts:
        slots = [path.removesuffix("._target_") for path in rule.get("expect", {})]
        for path in slots:
            if any(other.startswith(f"{path}.") for other in slots):
                continue  # a method that it only asks for; what it added is in there
            parts += _format_main_settings(cast(dict[str, Any], get_value(config, path) or {}), recipe)
    return " ".join(parts)


def _format_main_settings(node: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Numbers always; switches and choices where they are not the default, since most of them name a variant."""
    if "_target_" not in node:
        return []
    defaults = {f.name: f.default for f in fields(cast(Any, resolve(node["_target_"], "", recipe.packages)))}
    return [
        f"{key}={_format_value(value)}"
        for key, value in node.items()
        if key != "_target_"
        and ((isinstance(value, int | float) and not isinstance(value, bool)) or value != defaults.get(key))
    ]


def format_object(thing: Any) -> str:
    """The class of a config object and its settings other than the defaults: "Cosine warmup=1ep"."""
    parts = [_short_name(type(thing).__qualname__)]
    if is_dataclass(thing):
        for one in fields(thing):
            value = getattr(thing, one.name)
            default = one.default_factory() if one.default_factory is not MISSING else one.default
            if isinstance(default, FieldInfo):
                default = default.get_default(call_default_factory=True, validated_data={})
            if one.name in _ALWAYS_SHOWN or (value != default and one.name not in _NEVER_SHOWN):
                parts.append(f"{one.name}={_format_value(value)}")
    return " ".join(parts)


def _list_unusual_parts(recipe: Recipe, rules: Mapping[str, Any]) -> tuple[LabeledText, ...]:
    """The recipe's own transforms, which no technique brought, and the parts that differ from most recipes."""
    overlay_paths = {path.removesuffix("._target_") for rule in rules.values() for path in rule.get("expect") or {}}
    own = [(k, t) for k, t in recipe.transforms.items() if t is not None and f"transforms.{k}" not in overlay_paths]
    descriptions = {name: format_object(getattr(recipe, name)) for name in ("method", "objective", "update", "ema")}
    usual = {"method": "Supervised", "objective": "CrossEntropy", "update": "GradientStep", "ema": "Ema"}
    rows = [(name, text) for name, text in descriptions.items() if text != usual[name]]
    return (*((f"transforms.{key}", format_object(transform)) for key, transform in own), *rows)


def _format_device(recipe: Recipe, device: torch.device) -> str:
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
    modes = [mode for mode in ("compile", "deterministic", "tf32") if getattr(recipe.runtime, mode)]
    return ", ".join([name, *modes])


def _short_name(target: str) -> str:
    return target.rpartition(".")[2].removesuffix("Optimizer")


def _format_value(value: Any) -> str:
    """As on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_format_value, cast(list[Any], value)))}]"
    if isinstance(value, Mapping) and "_target_" in value:
        return _short_name(str(cast(dict[str, Any], value)["_target_"]))
    if isinstance(value, type):
        return value.__qualname__
    if is_dataclass(value):
        name, _, settings_of_it = format_object(value).partition(" ")
        return f"{name}({settings_of_it})" if settings_of_it else name
    return str(value)


def describe_optimizer(method: Method) -> str:
    """The optimizers and the implementations of their steps, of several that agree to rounding: "AdamP, batched"."""
    optimizers = [part.optimizer for part in list_parts(method).values()]
    if not optimizers and (one := getattr(method, "optimizer", None)) is not None:
        optimizers = [one]
    return " and ".join(dict.fromkeys(map(_describe_one, optimizers))) or type(method).__name__


def _describe_one(optimizer: torch.optim.Optimizer) -> str:
    switches = [key for key in ("fused", "foreach") if any(group.get(key) for group in optimizer.param_groups)]
    form = getattr(optimizer, "form", switches[0] if switches else None)
    return type(optimizer).__name__ + (f", {form}" if form else "")

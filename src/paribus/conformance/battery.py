"""The battery: what must hold of every technique, alone and together with others, on a recipe of seconds.

A check takes the subject and a folder to train in, and says what it found. It raises CheckFailed where the technique
does not hold it, and NotApplicable where there is nothing to check.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from paribus.conformance.draws import check_division, check_global_generators, check_run_seed
from paribus.conformance.findings import Check, CheckFailed, NotApplicable, require
from paribus.conformance.trainings import Trial, train_subject, workbench
from paribus.core.build import to_config
from paribus.core.capabilities import TrainedPart, list_added_parts, list_networks, list_parts
from paribus.core.errors import explain_exception
from paribus.core.progress import Progress
from paribus.recipe.build import build_loader, build_transforms, couples_samples
from paribus.recipe.compose import compose_config
from paribus.recipe.overlays import overlay_rule
from paribus.recipe.smoke import choose_techniques


def check_build(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    require(recipe.techniques == subject.techniques, f"in effect are {recipe.techniques}, not {subject.techniques}")
    classes = list(_compare_classes({k: v for k, v in to_config(recipe).items() if k != "_target_"}, recipe))
    return f"{len(classes)} objects, of the classes that the config names"


def _compare_classes(node: Any, thing: Any) -> Iterator[str]:
    """The class of every object, once it is the one that its config names."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            made = f"{type(thing).__module__}.{type(thing).__qualname__}"
            require(made == node["_target_"], f"{node['_target_']} became {made}")
            yield made
        for key, value in node.items():
            if key != "_target_":
                yield from _compare_classes(value, thing[key] if isinstance(thing, dict) else getattr(thing, key))


def check_learning(subject: Trial, scratch: Path) -> str:
    first = train_subject(subject, scratch / "a")
    losses = [event["values"]["train/loss"] for event in first.events]
    require(
        losses[-1] < 0.9 * losses[0],
        f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}; it should fall by a tenth at least",
    )
    apart = first.first_difference(train_subject(subject, scratch / "b"))
    require(
        not apart,
        f"the same seed gave other bits, first {apart}; draw from paribus.core.streams, with the seed and the step of "
        "Progress, and keep no state from one training in the next",
    )
    require(not first.same_as(train_subject(subject, scratch / "c", "seed=1")), "seed 1 gave the same bits as seed 0")
    return f"loss {losses[0]:.3f} to {losses[-1]:.3f}; again: the same bits; seed 1: others"


def check_resume(subject: Trial, scratch: Path) -> str:
    length = ("steps=40ba", "ema.decay=0.9")
    whole = train_subject(subject, scratch / "whole", *length)
    stopped = train_subject(subject, scratch / "parts", *length, stop_after=17)  # in the middle of a log window
    require(stopped.code == 75 and (stopped.folder / "PREEMPTED").exists(), f"the stop gave code {stopped.code}")
    resumed = train_subject(subject, scratch / "parts", *length)
    left = sorted(path.name for path in resumed.folder.glob("[A-Z]*"))
    require(resumed.code == 0 and left == ["DONE"], f"resumed, it ended with code {resumed.code} and {left}")
    apart = whole.first_difference(resumed)
    require(
        not apart,
        f"stopped at step 17 and resumed, it has other bits, first {apart}; state that is neither in the model nor in "
        "the optimizer's state_dict is lost on a stop, so make it a function of the step",
    )
    return "stopped at step 17 of 40 and resumed: the same bits"


def check_trackers(subject: Trial, scratch: Path) -> str:
    silent = train_subject(subject, scratch / "a", "steps=12ba")
    told = train_subject(subject, scratch / "b", "steps=12ba", "tracker=[events,console]", "every.log=1ba")
    require("step 12/12" in told.printed, "the console was not told of step 12")
    unlike = [name for name, weight in silent.weights.items() if not torch.equal(weight, told.weights[name])]
    require(not unlike, f"logged in every step, {unlike[:1]} has other bits; a log line should change no state")
    return "with a console and a log line each step: the same weights"


def check_parameters(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    data, method, place = workbench(recipe)
    parts = _parts(method)
    named = {
        f"{part}.{name}" if part else name: parameter
        for part, trained in parts.items()
        for name, parameter in trained.network.named_parameters()
    }
    grouped = [p for trained in parts.values() for group in trained.optimizer.param_groups for p in group["params"]]
    names = {id(p): name for name, p in named.items() if p.requires_grad}
    missing = [name for key, name in names.items() if key not in {id(p) for p in grouped}]
    require(not missing, f"in no group of the optimizer: {', '.join(missing)}")
    require(len(grouped) == len({id(p) for p in grouped}), "a tensor is in two groups of the optimizer")
    require(len(grouped) == len(names), f"{len(grouped) - len(names)} tensors of the optimizer are not the model's")
    seen, touched = set[str](), {name: torch.zeros((), dtype=torch.bool) for name in named}
    loader = build_loader(recipe, data, place)
    for step in range(3):  # more than one: some layers start at zero, and some networks rest in some steps
        method.train_step(loader.batch(step), Progress(step, 60, 0, loader.steps_per_epoch))
        for name, parameter in named.items():
            if parameter.grad is not None:
                seen.add(name)
                touched[name] |= (parameter.grad != 0).any()
    missing = [name for name in named if name not in seen]
    require(not missing, f"without a gradient in three steps: {', '.join(missing)}")
    idle = [name for name, yes in touched.items() if not yes]
    require(not idle, f"with a gradient of zero in three steps: {', '.join(idle)}")
    return f"{len(grouped)} tensors, each in one group, each with a gradient"


def check_transforms(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    data, method, place = workbench(recipe)
    loader = build_loader(recipe, data, place)
    transforms = build_transforms(recipe, data, place)
    for step in range(5):
        at = Progress(step, 60, 0, loader.steps_per_epoch)
        batch = loader.batch(step)
        inputs, targets = batch.inputs.clone(), batch.targets.clone()
        after = batch
        for name, transform in transforms.items():
            after = transform(after, at)
            unchanged = torch.equal(batch.inputs, inputs) and torch.equal(batch.targets, targets)
            require(unchanged, f"transforms.{name} changed the batch that it was given; return a new one")
        if after.targets.ndim == 2:
            off = (after.targets.sum(1) - 1).abs().max().item()
            require(off < 1e-5, f"the targets of a sample sum to 1 {off:+.2g}; they should be weights that sum to 1")
        method.train_step(batch, at)
        require(torch.equal(batch.inputs, inputs), "the step changed the images that it was given")
    return f"{', '.join(transforms) or 'no transform'}: the batch stays as it was, targets sum to 1"


def check_soft_targets(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    data, method, place = workbench(recipe)
    batch = build_loader(recipe, data, place).batch(0)
    soft = torch.nn.functional.one_hot(batch.targets, batch.classes).to(batch.inputs.dtype) * 0.9 + 0.1 / batch.classes
    mixed = replace(batch, targets=soft)
    loss = torch.as_tensor(method.train_step(mixed, Progress(0, 60, 0))["train/loss"])
    require(bool(torch.isfinite(loss)), f"the loss of soft targets is {float(loss)}")
    return f"loss {float(loss):.3f}"


def check_accumulation(subject: Trial, scratch: Path) -> str:
    recipe = subject.recipe()
    if couples_samples(recipe.method) or couples_samples(recipe.objective):
        raise NotApplicable("a step takes a batch whole, so a batch in parts is refused")
    more = ("steps=8ba", "update.precision=fp64")
    whole = train_subject(subject, scratch / "a", *more)
    parts = train_subject(subject, scratch / "b", *more, "update.accumulate=4")
    if any("running_mean" in name for name in whole.weights):
        return "trains in 4 parts; BatchNorm sees the parts, so weights are not compared"
    for name, weight in whole.weights.items():
        off = (weight - parts.weights[name]).abs().max().item()
        require(
            torch.allclose(weight, parts.weights[name], rtol=1e-9, atol=1e-11),
            f"in 4 parts {name} is off by {off:.2g}; draw by batch.ids or batch.positions, not by the size of a part",
        )
    return "in 4 parts: the same weights to rounding in float64"


def check_bf16(subject: Trial, scratch: Path) -> str:
    result = train_subject(subject, scratch, "steps=12ba", "update.precision=bf16")
    wrong = [name for name, weight in result.weights.items() if not torch.isfinite(weight).all()]
    require(result.code == 0 and not wrong, f"not finite after 12 steps: {', '.join(wrong)}")
    return "12 steps, every weight finite"


def check_pairs(subject: Trial, scratch: Path) -> str:
    base, arm = subject.baseline.recipe(), subject.recipe()
    (base_data, base_method, _), (arm_data, arm_method, _) = workbench(base), workbench(arm)
    loaders = [d.loader(base.batch_size, 0) for d in (base_data, arm_data)]
    for step in (0, 7, 33):
        one, other = (loader.batch(step) for loader in loaders)
        same = torch.equal(one.ids, other.ids) and torch.equal(one.inputs, other.inputs)
        require(same, f"step {step} sees other images than in the baseline; draw from a stream of your own name")
    if base.model != arm.model:
        return "the same images in the same order as the baseline; another network"
    networks = [list_networks(method) for method in (base_method, arm_method)]
    if any("" not in there for there in networks):
        raise NotApplicable(f"{type(arm_method).__name__} has no network in the place of the baseline's")
    pairs = zip(*(_list_shared(there[""]) for there in networks), strict=True)
    require(all(torch.equal(p, q) for p, q in pairs), "the initial weights are not those of the baseline")
    return "the same images, order and initial weights as the baseline"


def _list_shared(network: nn.Module) -> list[nn.Parameter]:
    """Its parameters but for those of modules that the network lacks around which it is built."""
    added = tuple(f"{part}." for part in list_added_parts(network))
    return [parameter for name, parameter in network.named_parameters() if not name.startswith(added)]


def check_neutral(subject: Trial, scratch: Path) -> str:
    rules = compose_config([choose_techniques(subject.techniques)], subject.config_dir)["overlays"]
    settings = [overlay_rule(name, rules.get(name)).check.neutral for name in subject.techniques]
    if len(settings) != 1 or not settings[0]:
        name = subject.techniques[0] if subject.techniques else "NAME"
        raise NotApplicable(f"overlays.{name}.check.neutral names no settings with which it does nothing")
    neutral = [f"{key}={'null' if value is None else value}" for key, value in settings[0].items()]
    base = train_subject(subject.baseline, scratch / "a", "steps=20ba")
    apart = base.first_shared_difference(train_subject(subject, scratch / "b", "steps=20ba", *neutral))
    require(not apart, f"with {' '.join(neutral)} it is not the baseline bit for bit, first {apart}")
    apart = base.first_shared_difference(train_subject(subject, scratch / "c", "steps=20ba"))
    require(bool(apart), "as it is, it changes nothing")
    return f"with {' '.join(neutral)}: the baseline, bit for bit"


CHECKS: Mapping[str, Check] = {
    "what is built is what the config names": check_build,
    "it learns; the same seed gives the same bits": check_learning,
    "stopped and resumed, it ends with the same bits": check_resume,
    "trackers cannot change a result": check_trackers,
    "every tensor is in one optimizer group and learns": check_parameters,
    "transforms leave their input alone": check_transforms,
    "random numbers come from no global generator": check_global_generators,
    "a batch may be divided among processes": check_division,
    "another seed gives other random numbers": check_run_seed,
    "soft targets are taken": check_soft_targets,
    "accumulation changes memory and nothing else": check_accumulation,
    "bf16 trains": check_bf16,
    "arms of one seed are paired": check_pairs,
    "set to nothing, it is the baseline": check_neutral,
}


@dataclass(frozen=True)
class BatteryResult:
    """Of one check. found: in words. seconds: that it took."""

    check: str
    state: Literal["ok", "failed", "not checked"]
    found: str
    seconds: float


def run_battery(subject: Trial) -> Iterator[BatteryResult]:
    """Every check, one after the other, in a temporary folder. Whatever a check raises is a failure of the subject."""
    for name, check in CHECKS.items():
        began = time.perf_counter()
        with TemporaryDirectory(prefix="paribus-check-") as scratch:
            try:
                state, found = "ok", check(subject, Path(scratch))
            except NotApplicable as reason:
                state, found = "not checked", str(reason)
            except CheckFailed as failure:
                state, found = "failed", str(failure)
            except Exception as error:  # of the user's own code, or a refusal of the recipe
                state, found = "failed", explain_exception(error)
        yield BatteryResult(name, state, found, time.perf_counter() - began)


def _parts(method: object) -> Mapping[str, TrainedPart]:
    if not (parts := list_parts(method)):
        raise NotApplicable(f"{type(method).__name__} does not say what it trains; give it `parts`")
    return parts

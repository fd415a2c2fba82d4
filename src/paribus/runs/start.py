"""How a run begins: at its own checkpoint, from initial weights, or as the exact continuation of a shorter run.

`init_from=RUN` continues that run, with its optimizer, average, step and record, where one run of this length would
have got to the same weights: the recipes differ in `steps` alone, the images and classes are the same, and the schedule
gives equal factors for every step so far, as a constant one does. A transform or objective of a user's own that reads
`at.total` is not seen here. It is bit for bit that run where this process also computes as the shorter run's did
(engine/provenance.py); what differs is named.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.content import check_checksum
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list
from paribus.core.progress import Progress
from paribus.core.protocols import DataSets, Schedule
from paribus.engine import checkpoint, receipt
from paribus.engine.agreement import diff_fingerprints
from paribus.engine.provenance import cpu_name
from paribus.interop.weight_files import find_run, hash_checkpoint
from paribus.recipe.identity import computed_part
from paribus.recipe.recipe import Recipe
from paribus.runs.recorded_run import select_segments
from paribus.study.plan import diff_recipes
from paribus.tracking.events import copy_events

_OF_LENGTH = ("steps", "init_from", "init_from_sha256")  # keys in which a continuation may differ
_DEPENDS = "its schedule depends on the length of the run; a constant one (schedule=constant) would go on exactly"
_OF_RUNTIME = ("threads", "channels_last", "compile", "deterministic", "tf32", "fused", "sync_bn")  # of a fingerprint


@dataclass(frozen=True)
class Start:
    """has_begun: there is a checkpoint of the run itself. continues: the checkpoint of the shorter run that it goes on
    from. numerics: the fingerprints under which that was trained, {} where there is none on record. why_new: why a run
    that starts from another run's weights is not its continuation. hint: what the user may have meant, one line."""

    has_begun: bool = False
    continues: Path | None = None
    numerics: tuple[Mapping[str, Any], ...] = ()
    why_new: str = ""
    hint: str = ""

    @property
    def from_checkpoint(self) -> bool:
        return self.has_begun or self.continues is not None

    @property
    def recorded_in(self) -> Path | None:
        """The folder of the shorter run."""
        return None if self.continues is None else self.continues.parent.parent


def choose_start(recipe: Recipe, data: DataSets, total: int, steps_per_epoch: int) -> Start:
    """For a run of `total` steps. Reads folders, so that rank 0 decides for all. Raises ConfigError."""
    if any((recipe.folder / runfolder.CHECKPOINTS).glob("step_*.pt")):
        return Start(has_begun=True)
    if recipe.find_init_from is None:
        return Start(hint=_find_shorter(recipe, total, steps_per_epoch))
    path = recipe.find_init_from()
    if (folder := find_run(path)) is None:
        return Start()
    found = checkpoint.load(path)
    why = _explain_difference(recipe, runfolder.read_config(folder), total, found.step, steps_per_epoch)
    segments = runfolder.read_segments(folder)
    if not why and (segments[:1] or [{}])[0].get("data_checksum") not in (None, data.checksum):
        why = "its images were others"
    if not why and found.class_ids and data.class_ids and found.class_ids != data.class_ids:
        why = "its classes were others, or in another order"
    if why:
        return Start(why_new=why)
    numerics = tuple(_read_numerics(segment) for segment in select_segments(segments, 0, found.step))
    return Start(continues=path, numerics=numerics)


def _read_numerics(segment: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint of a segment, and on a CPU the processor's model; {} where there is none on record."""
    found = segment.get("fingerprint") or {}
    on_cpu = found and segment.get("cpu") and not segment.get("gpu")
    return {**found, "processor": segment["cpu"]} if on_cpu else dict(found)


def _explain_difference(recipe: Recipe, config: Mapping[str, Any], total: int, step: int, steps_per_epoch: int) -> str:
    """Why a run of this config, which has got to `step`, is not continued by the recipe; "" if it is."""
    then, now = ({k: v for k, v in c.items() if k not in _OF_LENGTH} for c in (computed_part(config), recipe.computed))
    keys = [key for key, _, _ in diff_recipes(then, now)]
    swapped = tuple(key.removesuffix("_target_") for key in keys if key.endswith("._target_"))
    # of a class that was exchanged its name, without the settings that came with it
    if keys := [*(key[:-1] for key in swapped), *(key for key in keys if not key.startswith(swapped))]:
        return f"{format_list(keys, 3)} {'differ' if len(keys) > 1 else 'differs'}"
    length = str(config.get("steps"))
    if total <= max(step, in_steps(length, steps_per_epoch)):
        return f"steps={recipe.steps} is not longer than its {length}"
    lengths = (in_steps(length, steps_per_epoch), total)
    return "" if has_equal_factors(recipe.schedule, step, lengths, recipe.seed, steps_per_epoch) else _DEPENDS


def has_equal_factors(
    schedule: Schedule, steps: int, lengths: tuple[int, int], seed: int, steps_per_epoch: int
) -> bool:
    """Whether a schedule gives the same factors for the first `steps` steps of runs of both lengths."""
    return all(
        schedule(Progress(step, lengths[0], seed, steps_per_epoch))
        == schedule(Progress(step, lengths[1], seed, steps_per_epoch))
        for step in range(steps)
    )


def _find_shorter(recipe: Recipe, total: int, steps_per_epoch: int) -> str:
    """One line on the longest finished run of this recipe with fewer steps; "" if there is none."""
    found: list[tuple[int, Path, str]] = []
    for folder in recipe.folder.parent.glob(f"{glob.escape(recipe.title)}-*/"):
        if runfolder.read_state(folder) != "DONE":
            continue
        try:
            config = runfolder.read_config(folder)
            length = in_steps(config["steps"], steps_per_epoch)
            same = not diff_recipes(*({**c, "steps": ""} for c in (computed_part(config), recipe.computed)))
        except (ConfigError, KeyError, ValueError, TypeError, AttributeError):  # of no run that can be read today
            continue
        if same and length < total:
            found.append((length, folder, config["steps"]))
    if not found:
        return ""
    length, folder, steps = max(found)
    exact = has_equal_factors(recipe.schedule, length, (length, total), recipe.seed, steps_per_epoch)
    goes_on = "goes on from its end, with the same runtime, machine and versions to the same weights"
    gain = goes_on if exact else f"starts from its weights ({_DEPENDS})"
    return f"{folder} is this recipe with steps={steps}, done; init_from={folder} {gain}"


def describe_start(
    recipe: Recipe, start: Start, loaded: list[str], numerics: Mapping[str, Any], device: torch.device
) -> str:
    """What a run starts from, in a line; "" for weights of its own. loaded: what was said of weights that were read.
    numerics: this process's fingerprint."""
    if recipe.init_from is None:
        return ""
    if start.continues is not None:
        step = runfolder.checkpoint_step(start.continues.name)
        can_repeat = device.type == "cpu" or recipe.runtime.deterministic
        if device.type == "cpu" and all("processor" in each for each in start.numerics):
            numerics = {**numerics, "processor": cpu_name()}
        apart = explain_numerics(start.numerics, numerics, can_repeat)
        exact = f"; {apart}" if apart else ", bit for bit"
        return f"{recipe.init_from}: goes on with its training after step {step:,}{exact}"
    line = loaded[0] if loaded else recipe.init_from
    return f"{line}; a new run from these weights: {start.why_new}" if start.why_new else line


def explain_numerics(then: Sequence[Mapping[str, Any]], now: Mapping[str, Any], can_repeat: bool = True) -> str:
    """Why steps trained under the fingerprints `then` and further ones under `now` may not be, bit for bit, those of
    one run; "" if they are. can_repeat: False for CUDA without runtime.deterministic, where no two runs need be equal.

    >>> explain_numerics([{"channels_last": True}], {"channels_last": False})
    'its last bits may differ: runtime.channels_last was true, is false'
    """
    if not then or not all(then):
        return "its last bits may differ: how it was computed so far is not on record"
    found = [diff_fingerprints(each, now) for each in then]
    keys = {key: value for pairs in found for key, (_, value) in pairs.items()}
    parts: list[str] = []
    for key, value in keys.items():
        was = dict.fromkeys(_format_numeric(key, pairs[key][0]) for pairs in found if key in pairs)
        name = f"runtime.{key}" if key in _OF_RUNTIME else key
        parts.append(f"{name} was {' and '.join(was)}, is {_format_numeric(key, value)}")
    if not can_repeat:
        parts.append("CUDA without runtime.deterministic=true does not repeat its bits")
    # another source may compute something else, not only round otherwise
    what = "results" if any(key == "code" or key.startswith("package ") for key in keys) else "last bits"
    return f"its {what} may differ: {'; '.join(parts)}" if parts else ""


def _format_numeric(key: str, value: Any) -> str:
    """A value of a fingerprint, booleans as on the command line, digests shortened."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)[:12] if key == "code" or key.startswith("package ") else str(value)


def take_over(path: Path, recipe: Recipe, keep: int) -> None:
    """Copy the record of a shorter run, up to its checkpoint at `path`, into the recipe's new folder; the checkpoint
    comes last, so that a copy that was killed begins again. Raises ConfigError if the record does not reach it."""
    folder, source = recipe.folder, path.parent.parent
    found = checkpoint.load(path)
    check_checksum(path, hash_checkpoint(found), recipe.init_from_sha256)
    copy_events(source / runfolder.EVENTS, folder / runfolder.EVENTS, found.step)
    lines = receipt.read_until_checkpoint(source / runfolder.RECEIPTS, found.loop.get("receipt"))
    runfolder.write_atomically(folder / runfolder.RECEIPTS, lines)
    segments = [{runfolder.COPIED: str(source), **segment} for segment in runfolder.read_segments(source)]
    runfolder.write_json(folder / runfolder.PROVENANCE, {"segments": segments})
    checkpoint.save(folder, replace(found, recipe=recipe.id), keep)

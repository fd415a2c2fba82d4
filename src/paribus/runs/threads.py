"""How many threads a run computes with: decided once its network is built, before the first step, and recorded in its
provenance, since last bits of the result depend on it.
"""

from pathlib import Path

import torch

from paribus.core import runfolder
from paribus.core.cores import count_cores
from paribus.core.formatting import format_count
from paribus.engine.distributed import World, broadcast_from_main
from paribus.engine.provenance import device_model
from paribus.engine.threads import ThreadChoice, choose_threads, is_small
from paribus.recipe.recipe import Recipe


def decide_threads(
    recipe: Recipe, world: World, device: torch.device, macs: int | str, continues: Path | None = None
) -> tuple[int, str]:
    """The number of threads of each process, and a remark for the user, "" if there is nothing to say.

    A run that goes on where it was trained keeps its count, unless the config gives another. macs: of one image.
    continues: the folder of another run that it goes on from.
    """
    asked = choose_threads(recipe.runtime.threads, world)
    kept = broadcast_from_main(world, lambda: find_kept_count(continues or recipe.folder, world, device))
    if kept is not None:
        return decide_resumed(asked, kept, count_cores())
    images = recipe.batch_size // world.size // getattr(recipe.update, "accumulate", 1)
    is_idle = asked.source == "cores" and device.type == "cpu" and is_small(macs, images)
    return (1 if is_idle else asked.count), ""


def decide_resumed(asked: ThreadChoice, kept: int, cores: int) -> tuple[int, str]:
    """As decide_threads, for a run that has computed with `kept` threads so far."""
    before = format_count(kept, "thread")
    if asked.source == "runtime.threads":
        differs = f"this run has computed with {before} so far and goes on with {asked.count}"
        return asked.count, "" if asked.count == kept else f"{differs}: its last bits are those of neither count alone"
    keeps = f"this run keeps the {before} it was started with, so that its bits stay the same"
    change = "runtime.threads=N changes it"
    if asked.source != "cores" and asked.count != kept:
        return kept, f"{keeps}; {asked.source} says {asked.count}, and {change}"
    if kept > cores:
        return kept, f"{keeps}; {format_count(cores, 'core')} may be used here, so it may be slow, and {change}"
    return kept, ""


def explain_other_count(recipe: Recipe, world: World) -> str:
    """For a finished run: with how many threads it was made, if now others are asked for; else ""."""
    asked = choose_threads(recipe.runtime.threads, world)
    counts = [(s.get("fingerprint") or {}).get("threads") for s in runfolder.read_segments(recipe.folder)]
    made = list(dict.fromkeys(count for count in counts if isinstance(count, int)))
    if asked.source == "cores" or not made or made == [asked.count]:
        return ""
    first = "".join(f"{count} and then " for count in made[:-1])
    return f"it was made with {first}{format_count(made[-1], 'thread')}, not the {asked.count} of {asked.source}"


def find_kept_count(folder: Path, world: World, device: torch.device) -> int | None:
    """The count of the last segment, None where its bits cannot be had again: on another device, in other processes."""
    segments = runfolder.read_segments(folder)
    last = (segments[-1].get("fingerprint") or {}) if segments else {}
    same = (last.get("device"), last.get("world_size")) == (device_model(device), world.size)
    count = last.get("threads")
    return count if same and isinstance(count, int) else None

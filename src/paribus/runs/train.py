"""`paribus train`, one run: check, build, resume or start, train, record."""

import errno
import traceback
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any

import torch

from paribus.core import runfolder
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.events import read_events
from paribus.core.exit_codes import OK, REQUEUE
from paribus.core.protocols import DataSets
from paribus.engine import distributed
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import Every, Run
from paribus.engine.loop import train as train_loop
from paribus.engine.runtime import prepare
from paribus.engine.stop import StopRequest
from paribus.engine.watch import Watch, watching
from paribus.recipe.build import building, evaluation_from, loader_from, method_from, place_of, steps_of
from paribus.recipe.recipe import Recipe, recipe_from
from paribus.runs.describe import Size, facts_of, size_of
from paribus.runs.input_grid import show_inputs
from paribus.runs.resume import check_same_images, last_good_step, open_folder
from paribus.runs.screen import Screen, brief
from paribus.runs.trackers import Trackers, open_trackers


def train(cfg: Any, asked: list[str], stop: StopRequest | None = None, screen: Screen | None = None) -> int:
    """Train one composed config to its end and return the exit code. Raises ConfigError before anything is made.

    Joins the process group and stays in it: the jobs of a sweep share one, since torchrun's cannot be joined twice.
    """
    recipe = recipe_from(cfg, asked)
    world = distributed.from_environment()
    device = prepare(recipe.runtime, world)
    distributed.join(world, device)
    with watching(world, device) as watch:
        if distributed.from_main(world, lambda: runfolder.state(recipe.folder)) == "DONE":
            summary = runfolder.read_json(recipe.folder / runfolder.SUMMARY)
            if getattr(recipe.data, "is_whatever_lies_there", False):  # then the recipe does not say which images
                with building("data"):
                    data = recipe.data(place_of(recipe, device, world))
                check_same_images(recipe.folder, summary.get("data_checksum"), data.checksum)
            if world.is_main:
                known = summary.get("metrics", {})
                print(f"{recipe.folder} is done already: {brief(known)}; delete it to run again")
            return OK
        rules = cfg.get("overlays") or {}
        return _train(recipe, rules, world, device, stop or StopRequest(), screen or Screen(), watch)


def _train(
    recipe: Recipe,
    rules: Any,
    world: World,
    device: torch.device,
    stop: StopRequest,
    screen: Screen,
    watch: Watch,
) -> int:
    """Build everything, and only then make the folder, resume and train."""
    place = place_of(recipe, device, world)
    with building("data"):
        data = recipe.data(place)
        loader = loader_from(recipe, data, place)
        evaluators = evaluation_from(recipe, data)
    with building("model, optimizer or transforms"):
        method = method_from(recipe, data, place)
    size = size_of(method, data.spec)
    run = Run(
        folder=recipe.folder,
        recipe=recipe.id,
        total=steps_of(recipe, loader.steps_per_epoch),
        seed=recipe.seed,
        every=cadence(recipe, loader.steps_per_epoch),
        keep=recipe.checkpoints.keep,
        world=world,
        device=device,
    )
    stop.listen()
    with ExitStack() as held:
        resumed = distributed.from_main(world, lambda: open_folder(recipe, run, method, data.checksum, held))
        start = resumed.step if resumed else 0
        if world.is_main:
            show_inputs(recipe, data, loader, run.total)
            screen.begin(lambda: facts_of(recipe, rules, run, data, method, size, loader.steps_per_epoch, start))
        tracker = open_trackers(recipe, start, run.total, screen.quiet) if world.is_main else Trackers([])
        try:
            state = train_loop(
                run, method, loader, lambda: evaluate(method, evaluators, data.splits), tracker, stop, resumed
            )
        except Exception as error:
            failure = watch.lost(error) or _told(error)
            if world.is_main:
                summary: dict[str, Any] = {}
                with suppress(OSError):  # a full disk takes no marker; the folder then reads as not finished
                    why = failure or f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
                    summary = _finish(recipe, run, data, size, "FAILED", why)
                with suppress(OSError):
                    tracker.close(summary)
            if failure is not None:
                kind = (
                    ConfigError if isinstance(error, ConfigError) else RunFailed
                )  # what was read was wrong, or the run
                raise kind(f"{run.folder}: {failure}; {last_good_step(run.folder)}") from error
            raise
        if world.is_main:
            summary = _finish(recipe, run, data, size, state)
            tracker.close(summary)
            screen.end(summary, run.folder, start)
    return OK if state == "DONE" else REQUEUE


def _told(error: Exception) -> str | None:
    """What a person can do something about, in one line; None for a defect, which needs its traceback."""
    if isinstance(error, RunFailed | ConfigError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        return f"the run folder cannot be written any more: {error.strerror}; make room and run the same command again"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory; use a smaller batch_size, or update.accumulate=N for the same batch in N parts"
    return None


def cadence(recipe: Recipe, steps_per_epoch: int) -> Every:
    """Steps between two log points, evaluations, checkpoints."""
    log, evaluate, save = (
        in_steps(d, steps_per_epoch) for d in (recipe.every.log, recipe.every.evaluate, recipe.every.checkpoint)
    )
    return Every(log, evaluate, save)


def _finish(recipe: Recipe, run: Run, data: DataSets, size: Size, state: str, why: str = "") -> dict[str, Any]:
    """Write the summary from the record, then the state marker: whoever sees DONE finds the result."""
    metrics: dict[str, float] = {}
    events = read_events(run.folder / runfolder.EVENTS)
    for event in events:
        metrics |= event["values"]
    summary = {
        "id": recipe.id,
        "title": recipe.title,
        "name": recipe.name,
        "techniques": list(recipe.techniques),
        "seed": recipe.seed,
        "state": state,
        "step": events[-1]["step"] if events else 0,
        "steps": run.total,
        "sizes": dict(data.sizes),
        "data_checksum": data.checksum,
        "inputs": {**asdict(data.spec), "mean": list(data.mean), "std": list(data.std)},
        "model": {"parameters": size.parameters, "macs": size.macs if isinstance(size.macs, int) else None},
        "metrics": metrics,
    }
    runfolder.write_json(run.folder / runfolder.SUMMARY, summary)
    runfolder.mark(run.folder, state, why)
    return summary

"""`paribus train`, one run: check, build, resume or start, train, record."""

import errno
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from paribus.cli.compose import (
    Recipe,
    building,
    evaluation_from,
    loader_from,
    method_from,
    place_of,
    recipe_from,
    steps_of,
)
from paribus.cli.facts import Size, facts_of, optimizer_form, size_of
from paribus.cli.main import OK, REQUEUE
from paribus.cli.panel import Screen, brief
from paribus.cli.pictures import show_inputs
from paribus.cli.saved import newest
from paribus.core import runfolder
from paribus.core.duration import in_steps
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.events import read_events
from paribus.core.lock import locked
from paribus.core.protocols import DataSets, Method, Tracker
from paribus.engine import checkpoint, distributed, receipt
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.loop import Every, Run
from paribus.engine.loop import train as train_loop
from paribus.engine.provenance import fingerprint, record_segment
from paribus.engine.runtime import prepare
from paribus.engine.stop import StopRequest
from paribus.engine.watch import Watch, watching
from paribus.tracking.console import ConsoleLines
from paribus.tracking.events import Events


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
                _same_images(recipe.folder, summary.get("data_checksum"), data.checksum)
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
        resumed = distributed.from_main(world, lambda: _open(recipe, run, method, data.checksum, held))
        start = resumed.step if resumed else 0
        if world.is_main:
            show_inputs(recipe, data, loader, run.total)
            screen.begin(lambda: facts_of(recipe, rules, run, data, method, size, loader.steps_per_epoch, start))
        tracker = _trackers(recipe, start, run.total, screen.quiet) if world.is_main else Trackers([])
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
                raise kind(f"{run.folder}: {failure}; {_last_good(run.folder)}") from error
            raise
        if world.is_main:
            summary = _finish(recipe, run, data, size, state)
            tracker.close(summary)
            screen.end(summary, run.folder, start)
    return OK if state == "DONE" else REQUEUE


def _open(recipe: Recipe, run: Run, method: Method, images: str, held: ExitStack) -> checkpoint.Checkpoint | None:
    """Make and hold the run folder, write down what runs, and find the checkpoint to go on from.

    Raises ConfigError, and leaves no new folder, if it cannot be written or another process holds it.
    """
    try:
        with runfolder.made(run.folder):
            (run.folder / runfolder.CHECKPOINTS).mkdir(exist_ok=True)
            held.enter_context(locked(run.folder))
            runfolder.sweep(run.folder)
            resumed = _resumable(run)
            if resumed is not None:
                begun = [segment.get("data_checksum") for segment in runfolder.segments(run.folder)]
                _same_images(run.folder, begun[0] if begun else None, images)
            runfolder.mark(run.folder, None)
            runfolder.write_atomically(run.folder / runfolder.CONFIG, yaml.safe_dump(recipe.config, sort_keys=False))
            facts = fingerprint(recipe.runtime, run.device, run.world, optimizer_form(method))
            record_segment(run.folder, resumed.step if resumed else 0, facts, run.device, images)
            return resumed
    except OSError as error:
        raise ConfigError(
            f"paths.runs: {run.folder} cannot be written: {error.strerror}; make room or choose another with "
            "paths.runs=DIR"
        ) from error


def _told(error: Exception) -> str | None:
    """What a person can do something about, in one line; None for a defect, which needs its traceback."""
    if isinstance(error, RunFailed | ConfigError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
        return f"the run folder cannot be written any more: {error.strerror}; make room and run the same command again"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory; use a smaller batch_size, or update.accumulate=N for the same batch in N parts"
    return None


def _last_good(folder: Path) -> str:
    with warnings.catch_warnings():  # a damaged one was told of when the run started
        warnings.simplefilter("ignore")
        try:
            newest = checkpoint.newest(folder)
        except ConfigError:
            return "no checkpoint is sound"
    return f"the last good checkpoint is at step {newest.step}" if newest else "there is no checkpoint yet"


class Trackers:
    """Several trackers as one. The first is the record and must work; another that fails is dropped with a warning."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, values: Any) -> None:
        self._each(self._trackers, lambda tracker: tracker.log(step, values))

    def close(self, summary: Any) -> None:
        # the record comes last here: if it cannot be written any more, the others have still ended well
        self._each(self._trackers[::-1], lambda tracker: tracker.close(summary))

    def _each(self, trackers: list[Tracker], call: Callable[[Tracker], None]) -> None:
        for tracker in list(trackers):
            try:
                call(tracker)
            except Exception as error:
                if tracker is self._trackers[0]:
                    raise
                self._trackers.remove(tracker)
                print(f"warning: {type(tracker).__name__} failed and is dropped: {error!r}", file=sys.stderr)


def _trackers(recipe: Recipe, start: int, total: int, quiet: bool) -> Trackers:
    """The local record first and always, then the others of the config."""
    left_out = (Events, ConsoleLines) if quiet else Events
    others = [t for t in recipe.tracker.values() if t is not None and not isinstance(t, left_out)]
    return Trackers([t(recipe.folder, start, total) for t in (Events(), *others)])


def _same_images(folder: Path, was: str | None, now: str) -> None:
    """Raise ConfigError if a run was begun on other images than there are now. None: nobody noted it then."""
    if was is not None and was != now:
        raise ConfigError(
            f"{folder} was trained on other images (their checksum was {was[:12]}, not {now[:12]}); put those back, or "
            "give this run another name=NAME"
        )


def _resumable(run: Run) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from. Raises ConfigError if it is another recipe's, or the record does not reach it."""
    found = newest(run.folder)
    if found is None:
        return None
    if found.recipe != run.recipe:
        raise ConfigError(
            f"{run.folder} holds a checkpoint of recipe {found.recipe}, not {run.recipe}; delete it to start over"
        )
    path = run.folder / runfolder.EVENTS
    lines = sum(event["step"] <= found.step for event in read_events(path))
    if lines < (recorded := found.loop.get("recorded", 0)):
        raise ConfigError(
            f"{path} holds {lines} of the {recorded} lines up to the checkpoint at step {found.step}; put the file "
            f"back, or delete {run.folder} to start over"
        )
    path = run.folder / runfolder.RECEIPTS
    receipt.kept(path, found.loop.get("receipt"))
    if path.exists():
        receipt.read(path)  # raises for a line that was changed
    return found


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

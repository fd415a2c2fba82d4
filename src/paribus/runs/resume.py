"""Opening a run folder: held by one process, on the data it was begun with, at the checkpoint to go on from."""

import warnings
from contextlib import ExitStack
from pathlib import Path

import yaml

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.lock import locked
from paribus.core.protocols import Method
from paribus.engine import checkpoint, receipt
from paribus.engine.loop import Run
from paribus.engine.provenance import fingerprint, record_segment
from paribus.recipe.recipe import Recipe
from paribus.runs.describe import optimizer_form
from paribus.runs.saved_run import newest


def open_folder(recipe: Recipe, run: Run, method: Method, images: str, held: ExitStack) -> checkpoint.Checkpoint | None:
    """Make and hold the run folder, write down what runs, and find the checkpoint to go on from.

    Raises ConfigError, and leaves no new folder, if it cannot be written or another process holds it.
    """
    try:
        with runfolder.made(run.folder):
            (run.folder / runfolder.CHECKPOINTS).mkdir(exist_ok=True)
            held.enter_context(locked(run.folder))
            runfolder.sweep(run.folder)
            resumed = checkpoint_to_resume(run)
            if resumed is not None:
                begun = [segment.get("data_checksum") for segment in runfolder.segments(run.folder)]
                check_same_images(run.folder, begun[0] if begun else None, images)
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


def check_same_images(folder: Path, was: str | None, now: str) -> None:
    """Raise ConfigError if a run was begun on other images than there are now. None: nobody noted it then."""
    if was is not None and was != now:
        raise ConfigError(
            f"{folder} was trained on other images (their checksum was {was[:12]}, not {now[:12]}); put those back, or "
            "give this run another name=NAME"
        )


def checkpoint_to_resume(run: Run) -> checkpoint.Checkpoint | None:
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


def last_good_step(folder: Path) -> str:
    with warnings.catch_warnings():  # a damaged one was told of when the run started
        warnings.simplefilter("ignore")
        try:
            newest = checkpoint.newest(folder)
        except ConfigError:
            return "no checkpoint is sound"
    return f"the last good checkpoint is at step {newest.step}" if newest else "there is no checkpoint yet"

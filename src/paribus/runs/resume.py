"""Opening a run folder: held by one process, on the data it was started with, at the checkpoint to resume from."""

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.events import read_events
from paribus.core.labels import match_classes
from paribus.core.lock import locked
from paribus.engine import checkpoint, receipt
from paribus.engine.loop import RunSettings
from paribus.engine.provenance import record_segment
from paribus.recipe.recipe import Recipe
from paribus.runs.saved_run import load_newest_checkpoint, warn_of_unknown_classes
from paribus.runs.start import Start, take_over


def open_run_folder(
    recipe: Recipe,
    run: RunSettings,
    numerics: dict[str, Any],
    data_checksum: str,
    exit_stack: ExitStack,
    missing: Mapping[str, str],
    start: Start,
    origin: str = "",
) -> checkpoint.Checkpoint | None:
    """Create and hold the run folder, record what runs, and find the checkpoint to resume from.

    numerics: this process's fingerprint. missing: files that the run starts from and that are not there. origin: what
    it starts from, in words. Raises ConfigError, and leaves no new folder, if it cannot be written or another process
    holds it, or a file is missing and no checkpoint is sound.
    """
    try:
        with runfolder.create_folder(run.folder):
            (run.folder / runfolder.CHECKPOINTS).mkdir(exist_ok=True)
            exit_stack.enter_context(locked(run.folder))
            runfolder.remove_temporary_files(run.folder)
            if start.continues is not None:
                take_over(start.continues, recipe, run.keep)
            resumed = checkpoint_to_resume(run)
            check_start(missing, resumed is not None)
            if resumed is not None:
                recorded_checksums = [segment.get("data_checksum") for segment in runfolder.read_segments(run.folder)]
                check_same_images(run.folder, recorded_checksums[0] if recorded_checksums else None, data_checksum)
                warn_of_unknown_classes(run.folder, resumed.class_ids, run.class_ids)
                check_same_classes(run.folder, resumed.class_ids, run.class_ids)
            runfolder.write_state(run.folder, None)
            runfolder.write_atomically(run.folder / runfolder.CONFIG, yaml.safe_dump(recipe.config, sort_keys=False))
            step, begins = resumed.step if resumed else 0, origin if not start.has_begun else ""
            record_segment(run.folder, step, numerics, run.device, data_checksum, asdict(run.every), begins)
            return resumed
    except OSError as error:
        raise ConfigError(
            f"paths.runs: {run.folder} cannot be written: {error.strerror}; make room or choose another with "
            "paths.runs=DIR"
        ) from error


def check_start(missing: Mapping[str, str], has_checkpoint: bool) -> None:
    """Raise ConfigError if a run would begin without a file that it starts from. missing: key -> what is not there."""
    if missing and not has_checkpoint:
        key, file = next(iter(missing.items()))
        raise ConfigError(f"{key}: {file}: it is not there, and a run without a checkpoint starts from it; put it back")


def check_same_images(folder: Path, recorded_checksum: str | None, data_checksum: str) -> None:
    """Raise ConfigError if a run was started on other images than these. recorded_checksum None: not recorded."""
    if recorded_checksum is not None and recorded_checksum != data_checksum:
        raise ConfigError(
            f"{folder} was trained on other images, or with other facts about them (their checksum was "
            f"{recorded_checksum[:12]}, not {data_checksum[:12]}); put those back, or give this run another name=NAME"
        )


def check_same_classes(folder: Path, recorded: tuple[str, ...] | None, found: tuple[str, ...]) -> None:
    """Raise ConfigError if a run was started on other classes, or in another order. recorded: their ids; None or ()
    where they are not known."""
    if not recorded or not found or recorded == found:
        return
    remedy = "put the data back, or give this run another name=NAME"
    try:
        match_classes(found, recorded, "data", f"the run {folder}")
    except ConfigError as error:
        raise ConfigError(f"{error}; {remedy}") from error
    k = next(k for k, pair in enumerate(zip(found, recorded, strict=True)) if pair[0] != pair[1])
    raise ConfigError(
        f"data: its classes are in another order than those of the run {folder}: class {k} is {found[k]}, and was "
        f"{recorded[k]}; {remedy}"
    )


def checkpoint_to_resume(run: RunSettings) -> checkpoint.Checkpoint | None:
    """The checkpoint to resume from. Raises ConfigError if it is another recipe's, or the record does not reach it."""
    found = load_newest_checkpoint(run.folder)
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
    receipt.read_until_checkpoint(path, found.loop.get("receipt"))
    if path.exists():
        receipt.read(path)  # raises for a line that was changed
    return found


def explain_last_checkpoint(folder: Path) -> str:
    with warnings.catch_warnings():  # a damaged one was reported when the run started
        warnings.simplefilter("ignore")
        try:
            found = checkpoint.load_newest(folder)
        except ConfigError:
            return "no checkpoint is sound"
    return f"the last good checkpoint is at step {found.step}" if found else "there is no checkpoint yet"

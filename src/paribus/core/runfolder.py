"""The layout of a run folder, and how its state is read. No torch here: listing and reporting use it too.

config.yaml        the complete recipe, every default written out
provenance.json    code, packages, hardware and command, one entry for each segment of the run
events.jsonl       the record, append-only: one {"step": ..., "values": {...}} per line
metrics.csv        the same as a table, with tracker=[...,csv]
receipts.jsonl     losses of every step, gradient norms and checksums, for `paribus verify` (engine/receipt.py)
checkpoints/       step_00001234.pt and `last`, the name of the newest
summary.json       the result
evaluation.json    curves and tables of the last evaluation, by evaluator, where one has any (core/evaluation.py)
samples/           step_00001234.png of each evaluation, where an evaluator draws; what `paribus sample` writes
DONE | FAILED | PREEMPTED   once the run has stopped, exactly one of them
lock               held by the process that is training (core/lock.py)
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.core.errors import ConfigError
from paribus.core.lock import LOCK
from paribus.core.renamed import old_names

CONFIG, PROVENANCE, EVENTS, SUMMARY = "config.yaml", "provenance.json", "events.jsonl", "summary.json"
RECEIPTS = "receipts.jsonl"
METRICS = "metrics.csv"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
COPIED = "copied_from"  # in the segments of provenance.json that a continuation took over: the other run's folder
STATES = ("DONE", "FAILED", "PREEMPTED")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file atomically: a reader, or a crash, sees the old content or the new, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:  # most of all a full disk, which a partial file would keep full
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def find_temporary_files(folder: Path) -> Iterator[Path]:
    """The temporary files here of processes that write, or were killed while they did."""
    names = (
        CONFIG,
        PROVENANCE,
        EVENTS,
        RECEIPTS,
        METRICS,
        SUMMARY,
        EVALUATION,
        "diff.patch",
        *STATES,
        f"{CHECKPOINTS}/*",
        f"{SAMPLES}/*",
    )
    for pattern in (f"{LOCK}.now-*", *(f"{name}.tmp-*" for name in names)):
        yield from folder.glob(pattern)


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while writing here. Only for the holder of the lock."""
    for left_over in find_temporary_files(folder):
        left_over.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def create_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents for the `with` block. If that raises, remove what this call created."""
    created: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            try:
                path.mkdir()
                created.append(path)
            except OSError:
                if not path.is_dir():
                    raise
        yield
    except BaseException:
        if folder in created:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # a parent stays if others have put something there meanwhile
            for parent in reversed(created):
                if parent != folder:
                    parent.rmdir()
        raise


def read_state(folder: Path) -> str | None:
    """DONE, FAILED or PREEMPTED; None while running, killed or not started."""
    return next((name for name in STATES if (folder / name).exists()), None)


def write_state(folder: Path, name: str | None, why: str = "") -> None:
    """Leave exactly this state marker, or none."""
    if name is not None:
        write_atomically(folder / name, why + "\n" if why else "")
    for other in STATES:
        if other != name:
            (folder / other).unlink(missing_ok=True)


def checkpoint_step(name: str) -> int:
    """Of a checkpoint's file name. Raises ValueError for another name.

    >>> checkpoint_step("step_00001234.pt")
    1234
    """
    return int(name.removeprefix("step_").removesuffix(".pt"))


def newest_checkpoint_step(folder: Path) -> int | None:
    """The step of the newest checkpoint, by its name; None if there is none."""
    try:
        return checkpoint_step((folder / CHECKPOINTS / "last").read_text().strip())
    except (OSError, ValueError):
        return None


def name_picture(step: int, name: str = SAMPLES) -> str:
    """The file of what an evaluator drew after a step. name: of the evaluator.

    >>> name_picture(1234), name_picture(1234, "translations")
    ('step_00001234.png', 'step_00001234_translations.png')
    """
    return f"step_{step:08d}{'' if name == SAMPLES else f'_{name}'}.png"


def find_pictures(folder: Path, step: int) -> dict[str, Path]:
    """What evaluators drew after a step, by their names."""
    stem = f"step_{step:08d}"
    found = sorted((folder / SAMPLES).glob(f"{stem}*.png"))
    return {path.stem.removeprefix(stem).removeprefix("_") or SAMPLES: path for path in found}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object; {} if there is none. Raises ConfigError if it is damaged."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged: {error}; delete it and run again") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is damaged: it is not an object; delete it and run again")
    return found


def read_segments(folder: Path) -> list[dict[str, Any]]:
    """What provenance.json says of each segment of a run; [] if there is none. Raises ConfigError if it is damaged."""
    found = read_json(folder / PROVENANCE).get("segments", [])
    if not isinstance(found, list) or not all(isinstance(segment, dict) for segment in found):
        raise ConfigError(f"{folder / PROVENANCE} is damaged: its segments are not a list of objects; delete it")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.yaml. Raises ConfigError if there is none or it is damaged."""
    import yaml

    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder}: no run there (no {CONFIG}); paribus list runs names them")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is damaged: it is not a mapping")
    return config


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__,
        {
            "made": "create_folder",
            "state": "read_state",
            "mark": "write_state",
            "sweep": "remove_temporary_files",
            "segments": "read_segments",
            "saved_step": "newest_checkpoint_step",
            "sync_folder": "fsync_folder",
        },
    )

"""Atomic checkpoints: written to a temporary file, synced, renamed; loading finds the newest intact one."""

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paribus.core.errors import ConfigError, explain_exception
from paribus.core.runfolder import CHECKPOINTS, EVENTS, write_atomically

# A checkpoint is torch's file followed by its sha256: a truncated file or a flipped bit is detected before anything
# in it is used. torch.load reads the zip archive in front and ignores what follows.
_DIGEST = 32


@dataclass(frozen=True)
class Checkpoint:
    """After `step` steps of the run with this recipe id: the method's state and the loop's own.

    class_ids, class_names: of the data, in the order of its labels (core/protocols.py, DataSets); () unknown. None in
    checkpoints from before they were kept.
    """

    step: int
    recipe: str
    method: dict[str, Any]
    loop: dict[str, Any]
    class_ids: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None


def save(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write checkpoints/step_XXXXXXXX.pt, then point `last` to it, then delete all but the newest `keep`."""
    folder = run / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    data = buffer.getvalue()
    path = folder / f"step_{checkpoint.step:08d}.pt"
    if (run / EVENTS).exists():  # the checkpoint counts the record's lines, so they must not be lost after it
        with open(run / EVENTS, "rb") as record:
            os.fsync(record.fileno())
    write_atomically(path, data + hashlib.sha256(data).digest())
    write_atomically(folder / "last", path.name + "\n")
    for old in sorted(folder.glob("step_*.pt"))[:-keep]:
        if old != path:  # a damaged file of a later step may stand after it
            old.unlink()
    return path


def load(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Raises ConfigError if the file is damaged. Only tensors and plain data are unpickled."""
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw[:-_DIGEST]).digest() != raw[-_DIGEST:]:
            raise ConfigError("its content does not match its checksum")
        return Checkpoint(**torch.load(io.BytesIO(raw[:-_DIGEST]), map_location=device, weights_only=True))
    except Exception as error:  # whatever a broken or foreign file makes torch, zip or pickle raise
        what = error.strerror if isinstance(error, OSError) and error.strerror else explain_exception(error)
        raise ConfigError(f"{path} is not a sound checkpoint: {what}") from error


def load_newest(run: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """The newest intact checkpoint of a run; a damaged one is skipped with a warning. None if there is none.

    Raises ConfigError if there are checkpoints and all are damaged, so that a run never starts over silently.
    """
    paths = sorted((run / CHECKPOINTS).glob("step_*.pt"), reverse=True)
    for path in paths:
        try:
            return load(path, device)
        except ConfigError as error:
            warnings.warn(f"{error}; trying the one before", stacklevel=2)
    if paths:
        raise ConfigError(f"{run / CHECKPOINTS}: no checkpoint is sound; delete {run} to start over")
    return None

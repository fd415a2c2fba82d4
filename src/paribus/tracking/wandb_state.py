"""What the W&B follower and its session share: the run folder, its W&B settings and id, status.json, local records.

Imports neither torch nor wandb.
"""

import json
import os
import secrets
import shutil
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from paribus.core import runfolder
from paribus.core.build import build
from paribus.tracking.wandb import ID, MIRROR, STATUS, WandB

RECORD = "record"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"  # what W&B's own ids are made of


class Follower:
    """A run folder, its W&B settings and status, and whether training has ended."""

    def __init__(self, run: Path, patience: float | None) -> None:
        self.run, self.mirror = run, run / MIRROR
        self.config: dict[str, Any] = yaml.safe_load((run / runfolder.CONFIG).read_text())
        self.options = find_wandb_options(self.config)
        self.timeout_s = self.options.sync_timeout if patience is None else patience
        self.id = _load_or_make_id(self.mirror / ID)
        self.trainer_pid = os.getppid()
        self.ended = threading.Event()
        self._status: dict[str, Any] = {"host": socket.gethostname(), "process": os.getpid()}

    def write_status(self, **news: Any) -> None:
        """Update status.json."""
        self._status |= news
        with suppress(OSError):
            (self.mirror / f"{STATUS}.new").write_text(json.dumps(self._status))
            os.replace(self.mirror / f"{STATUS}.new", self.mirror / STATUS)

    @property
    def home(self) -> Path:
        """The folder in which W&B makes its own: WANDB_DIR or the run folder."""
        return Path(os.environ.get("WANDB_DIR") or self.run).expanduser()

    def keep_only(self, record: Path | None) -> None:
        """Remove what W&B has written of this run but for one record."""
        second = "[0-9]" * 8 + "_" + "[0-9]" * 6  # spelt out: `*` would match the run b-c where this one is c
        for folder in (self.home / "wandb").glob(f"*run-{second}-{self.id}"):
            if record is None or folder.name != record.name:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def complete_record(self) -> Path | None:
        """W&B's folder of the last follower that finished."""
        path = self.mirror / RECORD
        return Path(path.read_text()) if path.exists() else None

    def mark_complete(self, record: Path) -> None:
        runfolder.write_atomically(self.mirror / RECORD, str(record))
        self.keep_only(record)


def find_wandb_options(config: dict[str, Any]) -> WandB:
    """The settings that the run was started with; the defaults if it had no such tracker."""
    trackers = [t for t in (config.get("tracker") or {}).values() if t and t["_target_"].endswith("wandb.WandB")]
    return build(trackers[0]) if trackers else WandB()


def _load_or_make_id(path: Path) -> str:
    """WANDB_RUN_ID, else random, since two people may run one recipe. Kept, since a run that is resumed stays one
    run."""
    if not path.exists():
        random = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        runfolder.write_atomically(path, os.environ.get("WANDB_RUN_ID") or random)
    return path.read_text()

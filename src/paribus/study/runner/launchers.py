"""Which launchers are alive: each holds the kernel's lock on a file of its own beside the run folders it works on,
RUNS/HOST-PROCESS-XXXXXXXX.launcher, from its first cell until it ends.

A cell's log names the launcher that started it (cells.py). While that one lives, the cell is its own affair and takes
no place of another's; once it is gone, the cell is an orphan, which whoever finds it looks after. Cells do not inherit
the file, so the lock ends with the launcher, however that ends.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paribus.study.runner.cells import CellState, has_live_process

_SUFFIX = ".launcher"


@contextmanager
def registered(runs: Path) -> Iterator[str]:
    """Be known as alive, under the name that this gives, to launchers of the same runs. Raises OSError."""
    runs.mkdir(parents=True, exist_ok=True)
    _remove_dead(runs)
    # process ids come again, in containers soon
    name = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
    path, unlocked = runs / f"{name}{_SUFFIX}", runs / f".{name}{_SUFFIX}.new"
    with open(unlocked, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unlocked.rename(path)  # locked before it can be seen, so that nobody takes it for a dead one's
        try:
            yield name
        finally:
            with suppress(OSError):
                path.unlink()


def is_anothers(runs: Path, now: CellState, own: str) -> bool:
    """Whether a running cell belongs to a launcher other than ours that is alive. own: the name of ours."""
    return now.launcher not in ("", own) and has_live_process(runs / f"{now.launcher}{_SUFFIX}")


def _remove_dead(runs: Path) -> None:
    """Remove the files of launchers that were killed."""
    for path in runs.glob(f"*{_SUFFIX}"):
        if not has_live_process(path):
            with suppress(OSError):
                path.unlink()

"""Processes that a test disturbs: started, watched, killed. None outlives the test, however that ends."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE_S = 900

Checkpoints = set[tuple[str, int]]  # path and time of change, since a damaged one is written again under its name


@dataclass
class Processes:
    """Those that are started in folders below `top`, and all that these start there."""

    top: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.started:  # first, or a launcher would start its cells again
            process.kill()
            process.wait()
        while left := processes_with(str(self.top)):
            for process in left:
                kill(process)
            time.sleep(0.02)

    def start(self, folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
        """A process in a session of its own, as a scheduler starts one."""
        with open(folder / "stderr.txt", "ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def end(self, folder: Path, command: list[str]) -> int:
        """The exit code of a process that is left alone."""
        return self.start(folder, command).wait(PATIENCE_S)


def processes_with(text: str) -> list[int]:
    """Processes whose working folder lies under this path."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if os.readlink(path).startswith(text):
                found.append(int(path.parent.name))
    return found


def kill(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def checkpoints_below(folder: Path) -> Checkpoints:
    """Every checkpoint of the runs in a folder's `runs`."""
    found: Checkpoints = set()
    for path in folder.glob("runs/*/checkpoints/step_*.pt"):
        with suppress(OSError):  # only the newest are kept
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def wait_for_checkpoints(folder: Path, before: Checkpoints, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written so many checkpoints that were not there before it started, or has ended.

    How long that takes is the machine's affair: importing torch alone may take longer than a whole run elsewhere.
    """
    new: Checkpoints = set()
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and len(new) < count:
        assert time.monotonic() < deadline, f"no {count} checkpoints in {PATIENCE_S} s"
        new |= checkpoints_below(folder) - before
        time.sleep(0.01)

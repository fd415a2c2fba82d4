"""What ends a launch: Ctrl-C and SIGTERM, which touch no cell, and the end of its time, which stops them. A terminal
that closes does not."""

import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType


class LaunchStop:
    """requested: Ctrl-C or SIGTERM was received. hung_up: the terminal is closed (logout); the launcher continues.
    deadline: by time.monotonic(); from then on no cell is started, and those of this launch are stopped."""

    def __init__(self, deadline: float = math.inf) -> None:
        self.requested = False
        self.hung_up = False
        self.deadline = deadline

    def seconds_over(self) -> float:
        """Seconds since the deadline; negative before it."""
        return time.monotonic() - self.deadline

    def listen(self, log: Path) -> None:
        """log: file for the output once the terminal is closed. Its folder must exist."""
        outputs = [number for number in (1, 2) if os.isatty(number)]

        def leave(number: int, frame: FrameType | None) -> None:
            self.requested = True

        def hang_up(number: int, frame: FrameType | None) -> None:
            self.hung_up = True
            if outputs:  # writing to a closed terminal is an error
                descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                for output in outputs:
                    os.dup2(descriptor, output)
                os.close(descriptor)

        signal.signal(signal.SIGINT, leave)
        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGHUP, hang_up)


def request_checkpoint(process: int) -> None:
    """Ask a cell to stop with a checkpoint. Nothing happens if there is no such process, or it is not one that a
    launcher started, in a session of its own: a run folder's lock may name a process of another container."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getsid(process) == process:
            os.kill(process, signal.SIGTERM)

"""Stopping a launcher without touching its cells: Ctrl-C, SIGTERM, and a closed terminal."""

import os
import signal
from pathlib import Path
from types import FrameType


class LaunchStop:
    """requested: Ctrl-C or SIGTERM was received. hung_up: the terminal is closed (logout); the launcher continues."""

    def __init__(self) -> None:
        self.requested = False
        self.hung_up = False

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

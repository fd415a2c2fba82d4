"""A terminal for tests: runs a command in a pseudo-terminal, and tells what stands on the screen at the end."""

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from helpers.screens import screen


@dataclass(frozen=True)
class Shown:
    code: int
    raw: str
    columns: int

    @property
    def screen(self) -> list[str]:
        return screen(self.raw, self.columns)


def on_terminal(
    command: list[str],
    cwd: Path,
    columns: int = 80,
    interrupt_at: Callable[[str], bool] | None = None,
    **environment: str,
) -> Shown:
    """Run it to its end in a terminal this wide. interrupt_at: send SIGINT once this holds of what was shown so far."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    known = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**known, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
    )
    os.close(slave)
    raw, end = b"", time.monotonic() + 240
    while time.monotonic() < end:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says so when nobody has the other side open any more
            break
        if not part:
            break
        raw += part
        if interrupt_at is not None and interrupt_at(raw.decode(errors="replace")):
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(master)
    return Shown(process.wait(timeout=60), raw.decode(), columns)


def train_on_terminal(cwd: Path, *arguments: str, **more: object) -> Shown:
    command = [sys.executable, "-m", "paribus.cli", "train", *arguments, "runtime.threads=1"]
    return on_terminal(command, cwd, **more)  # type: ignore[arg-type]

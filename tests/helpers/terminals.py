"""A terminal for tests: runs a command in a pseudo-terminal, and tells what stands on the screen at the end."""

import os
import pty
import re
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


def screen(raw: str, columns: int) -> list[str]:
    """What stands on a terminal of endless height, down to the cursor. Fails on sequences that rich has no use for."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[(\?25[hl]|[\d;]*m|\d*[AK])|(\r)|(\n)|([^\x1b\r\n]+)|(\x1b.?)", raw):
        sequence, back, down, text, unknown = found.groups()
        lines += [""] * (row + 1 - len(lines))
        assert unknown is None, f"an unknown sequence: {unknown!r}"
        if back:
            column = 0
        elif down:
            row += 1
        elif sequence and sequence[-1] == "A":
            row = max(0, row - int(sequence[:-1] or 1))
        elif sequence == "2K":
            lines[row] = ""
        for character in text or "":
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    while len(lines) > row + 1 and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]

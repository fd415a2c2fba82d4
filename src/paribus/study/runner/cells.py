"""A cell from the outside: its state, read from its run folder and log, and how its process is started.

NAME.log beside the run folder NAME has everything that the cell's processes printed. It begins with `== start` and a
command to copy and run by hand, in which PARIBUS_LAUNCHER names the launcher (launchers.py); a launcher that outlives
the cell adds `== ended with CODE`.

The kernel's lock on the log shows whether a process of the cell is alive. The launcher takes it and the process
inherits it with the open file, so it is held from before the process exists until it ends, even if the launcher dies; a
restarted or second launcher sees it at once, while the run folder's own lock comes seconds later, when torch has been
imported.
"""

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from paribus.core.lock import LOCK, find_holder
from paribus.study.plan import Cell

StateName = Literal[
    "done", "running", "failed", "waiting", "pending", "requeued", "cancelled"
]  # the last three: on Slurm
_START, _END = "== start ", "== ended with "
_TAIL_BYTES = 8192  # bytes at the end of a log that are searched for its last lines
# exit codes after which an unfinished cell is simply resumed; the last: asked to stop, but too early for a checkpoint
_RESUMABLE_CODES = (0, 75, -signal.SIGTERM)
LAUNCHER = "PARIBUS_LAUNCHER"  # in the first line of a start


@dataclass(frozen=True)
class CellState:
    """host and process: of the training process, "" and 0 where not known yet. since: UNIX time of the start, 0 where
    not recorded. device: its CUDA_VISIBLE_DEVICES. launcher: the name of the one that started it, "" if none did. why:
    it failed, or waits. job: Slurm's, if it has one."""

    state: StateName
    host: str = ""
    process: int = 0
    since: float = 0.0
    device: str = ""
    launcher: str = ""
    why: str = ""
    job: str = ""


def log_path(runs: Path, cell: Cell) -> Path:
    return runs / f"{cell.folder}.log"


def read_state(runs: Path, cell: Cell, recorded: bool = False) -> CellState:
    """The state by a cell's folder and log. recorded: whether it has a row, from this machine or another.

    Only names, locks and the end of a log are read: a tenth of a millisecond.
    """
    folder, log = runs / cell.folder, log_path(runs, cell)
    try:
        names = set(os.listdir(folder))
    except OSError:
        names = set[str]()
    if "DONE" in names:
        return CellState("done")
    held = find_holder(folder) if LOCK in names else None
    started_by_launcher = has_live_process(log)
    if held or started_by_launcher:
        since, device, launcher = _read_last_start(log)
        host, process = (held.host, held.process) if held else ("", 0)
        return CellState("running", host, process, since, device, launcher if started_by_launcher else "")
    if recorded:
        return CellState("done")
    if "FAILED" in names:
        return CellState("failed", why=_read_first_line(folder / "FAILED"))
    *_, before, last = ["", "", *read_last_lines(log, 2)]
    code = last.removeprefix(_END).split(" ")[0] if last.startswith(_END) else "0"
    if code.lstrip("-").isdecimal() and int(code) not in _RESUMABLE_CODES:
        return CellState("failed", why=before or last)
    return CellState("waiting")


def has_live_process(log: Path) -> bool:
    """Whether a process of this log's cell is alive: whether one holds the kernel's lock on the file."""
    try:
        with open(log, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # no log
        return False


def start_process(
    runs: Path,
    cell: Cell,
    threads: int,
    device: str | None,
    launcher: Sequence[str] = (),
    detached: bool = True,
    started_by: str = "",
) -> subprocess.Popen[bytes] | None:
    """Start a cell. detached: in its own session and process group, so that it survives this terminal.

    Returns None, and starts nothing, if another process has the cell or it is done by now.
    device: for CUDA_VISIBLE_DEVICES; None leaves it unset. launcher: a command that starts it, e.g. srun and its flags.
    started_by: the name of our launcher. Raises OSError if the log cannot be written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with open(log_path(runs, cell), "ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        folder = runs / cell.folder
        if (folder / "DONE").exists() or find_holder(folder):
            return None
        environment = {"OMP_NUM_THREADS": str(threads)}
        environment |= {"CUDA_VISIBLE_DEVICES": device} if device is not None else {}
        environment |= {LAUNCHER: started_by} if started_by else {}
        command = [*launcher, *build_command(runs, cell)]
        _write_line(log, f"{_START}{_now()} {shlex.join([*(f'{k}={v}' for k, v in environment.items()), *command])}")
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=detached,
            # one W&B run for all cells would mix them
            env={key: v for key, v in os.environ.items() if key != "WANDB_RUN_ID"} | environment,
        )


def build_command(runs: Path, cell: Cell) -> list[str]:
    """The command that trains a cell; it works by hand too."""
    return [
        sys.executable,
        "-P",
        "-m",
        "paribus.cli",
        "train",
        *(["--config-dir", cell.config_dir] if cell.config_dir else []),
        *cell.overrides,
        f"paths.runs={quote_override(str(runs))}",
    ]


def write_end(runs: Path, cell: Cell, code: int) -> None:
    """Write into a cell's log how its process ended; a negative code is minus the signal that killed it."""
    with open(log_path(runs, cell), "ab") as log:
        _write_line(log, f"{_END}{code} {_now()}")


def read_last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty; [] if there is none."""
    return [line for line in _read_tail(log, _TAIL_BYTES)[0].splitlines() if line.strip()][-count:]


def read_last_output(log: Path, count: int) -> list[str]:
    """The last lines that a cell itself printed in its last start."""
    lines = read_last_lines(log, 200)
    begin = max((i + 1 for i, line in enumerate(lines) if line.startswith(_START)), default=0)
    return [line for line in lines[begin:] if not line.startswith(_END)][-count:]


def quote_override(text: str) -> str:
    """A value for a Hydra override, in quotes where Hydra's grammar would split it."""
    # a single word could be null, true or inf, so only text with a slash, as in paths, stays unquoted
    if re.fullmatch(r"[A-Za-z0-9_./+-]+", text) and "/" in text:
        return text
    # in Hydra's quotes a backslash is literal, except in \' and right before a quote
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def explain_exit(runs: Path, cell: Cell, now: CellState, code: int) -> str:
    """Why a cell that exited with this code has failed. now: its state since."""
    if code < 0:
        return f"killed by signal {-code}"
    if code == 0:
        return f"exited with 0, but {cell.folder} is not done; its recipe may have changed since it was planned"
    return now.why or next(iter(read_last_output(log_path(runs, cell), 1)), f"exit code {code}")


def _read_last_start(log: Path) -> tuple[float, str, str]:
    """When the last start was, on which device and by which launcher, from the log; (0, "", "") if it has none."""
    count, line, is_whole = _TAIL_BYTES, "", False
    while not line and not is_whole:  # a long run has printed much since
        text, is_whole = _read_tail(log, count)
        line = next((line for line in reversed(text.splitlines()) if line.startswith(_START)), "")
        count *= 16
    stamp, *words = line.removeprefix(_START).split(" ")
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        since = datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        since = 0.0
    return since, environment.get("CUDA_VISIBLE_DEVICES", ""), environment.get(LAUNCHER, "")


def _read_tail(log: Path, count: int) -> tuple[str, bool]:
    """The last so many bytes of a log, as text, and whether that is all of it; nothing if there is none."""
    try:
        with open(log, "rb") as file:
            begin = max(0, os.fstat(file.fileno()).st_size - count)
            file.seek(begin)
            return file.read().decode(errors="replace"), begin == 0
    except OSError:
        return "", True


def _read_first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _write_line(log: IO[bytes], text: str) -> None:
    log.write(text.encode() + b"\n")
    log.flush()

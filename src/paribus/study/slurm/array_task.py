"""What a task of a Slurm array does: train one cell as the local launcher would, put its row on record, queue again.

Slurm signals this process; the cell gets SIGUSR1 from it, since srun hands that to its tasks and makes SIGTERM an end
at once.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, REQUEUE
from paribus.core.lock import STALE, find_holder
from paribus.core.runfolder import newest_checkpoint_step
from paribus.study import rows
from paribus.study.plan import Cell, Plan
from paribus.study.runner import cells
from paribus.study.slurm import queue
from paribus.study.spec import Study

LOCK_TIMEOUT_S = STALE + 60  # seconds for the lock of an earlier start on a node that died
MAX_RESTARTS_WITHOUT_CHECKPOINT = 3  # restarts after which one that saved nothing new is the last


class SignalForwarder:
    """asked: SIGTERM or SIGUSR1 came, and the cell has been told, now or as soon as there is one."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name} came", flush=True)
        self.stop_requested = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGUSR1)


def run_cell(study: Study, plan: Plan, runs: Path, cell: Cell, launcher: Sequence[str] = ()) -> int:
    """The exit code of the cell; 75 where its job queues again. launcher: what starts its processes, e.g. srun."""
    signals, before = SignalForwarder(), newest_checkpoint_step(runs / cell.folder)
    code = 0
    for _ in range(1 + study.spec.retries):
        child = None if signals.stop_requested else _start_process(study, runs, cell, launcher, signals)
        if child is not None:
            code = child.wait()
            cells.write_end(runs, cell, code)
        if cells.read_state(runs, cell).state == "done":
            _record_row(study, plan, runs, cell)
            return 0
        if signals.stop_requested or code == REQUEUE:
            return _requeue(cell, before, newest_checkpoint_step(runs / cell.folder))
        if child is None:
            print(
                f"{cell.name}: {find_holder(runs / cell.folder) or 'another process'} has it; nothing to do", flush=True
            )
            return 0
        if code == BAD_CONFIG:
            break
    _record_row(study, plan, runs, cell)
    print(f"{cell.name} failed with exit code {code}; {cells.log_path(runs, cell)}", flush=True)
    return code if code > 0 else 1


def _start_process(
    study: Study, runs: Path, cell: Cell, launcher: Sequence[str], signals: SignalForwarder
) -> subprocess.Popen[bytes] | None:
    """The cell's process; None if it is done or another has it, and keeps it longer than a lock of the dead stands."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        signals.child = cells.start_process(runs, cell, study.spec.threads, None, launcher, detached=False)
        if signals.child is not None:
            if signals.stop_requested:  # it came just now
                signals.child.send_signal(signal.SIGUSR1)
            return signals.child
        if (runs / cell.folder / "DONE").exists() or signals.stop_requested or time.monotonic() > deadline:
            return None
        time.sleep(1)


def _requeue(cell: Cell, before: int | None, after: int | None) -> int:
    """Queue again. A cell that gets nowhere, say since its time is too short to start in, does not do so for ever."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    if (after or 0) <= (before or 0) and restarts.isdecimal() and int(restarts) >= MAX_RESTARTS_WITHOUT_CHECKPOINT:
        print(
            f"{cell.name}: stopped without a new checkpoint, after {restarts} restarts; give it more --time",
            flush=True,
        )
        return 1
    why_not = queue.requeue_self()
    print(f"{cell.name}: stopped at step {after or 0}; " + (why_not or "its job queues again"), flush=True)
    return REQUEUE


def _record_row(study: Study, plan: Plan, runs: Path, cell: Cell) -> None:
    """Put the cell's row on record. If that cannot be, the next study run or status does it."""
    try:
        row = rows.read_row(runs / cell.folder, study.name, cell.arm)
        if row is not None:
            rows.update_rows(study, [row], plan.ids())
    except (ConfigError, KeyError) as error:
        print(f"warning: {cell.name} has no row yet: {error}", flush=True)

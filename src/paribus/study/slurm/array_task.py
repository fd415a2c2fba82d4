"""A task of a Slurm array: train one cell as the local launcher would, record its row, requeue if stopped.

Slurm signals this process; the cell gets SIGUSR1 from it, since srun passes that on to its tasks but ends
them at once on SIGTERM.
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
from paribus.study.runner.repeat import results_path
from paribus.study.slurm import queue
from paribus.study.spec import Study

LOCK_TIMEOUT_S = STALE + 60  # seconds to wait for the lock of an earlier start on a dead node
MAX_RESTARTS_WITHOUT_CHECKPOINT = 3  # after so many restarts, a stop without a new checkpoint is final


class SignalForwarder:
    """stop_requested: SIGTERM or SIGUSR1 was received; it is forwarded to the cell, at once or when it has started."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.child: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        print(f"received {signal.Signals(number).name}", flush=True)
        self.stop_requested = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGUSR1)


def run_cell(
    study: Study, plan: Plan, runs: Path, cell: Cell, launcher: Sequence[str] = (), repeat: bool = False
) -> int:
    """The exit code of the cell; 75 where its job is requeued. launcher: what starts its processes, e.g. srun. repeat:
    runs is the folder of a repeat, and the row goes there."""
    results = results_path(study, runs, repeat)
    signals, before = SignalForwarder(), newest_checkpoint_step(runs / cell.folder)
    code = 0
    for _ in range(1 + study.spec.retries):
        child = None if signals.stop_requested else _start_process(study, runs, cell, launcher, signals)
        if child is not None:
            code = child.wait()
            cells.write_end(runs, cell, code)
        if cells.read_state(runs, cell).state == "done":
            _record_row(study, plan, runs, cell, results)
            return 0
        if signals.stop_requested or code == REQUEUE:
            return _requeue(cell, before, newest_checkpoint_step(runs / cell.folder))
        if child is None:
            print(
                f"{cell.name}: {find_holder(runs / cell.folder) or 'another process'} is running it; nothing to do",
                flush=True,
            )
            return 0
        if code == BAD_CONFIG:
            break
    _record_row(study, plan, runs, cell, results)
    print(f"{cell.name} failed with exit code {code}; {cells.log_path(runs, cell)}", flush=True)
    return code if code > 0 else 1


def _start_process(
    study: Study, runs: Path, cell: Cell, launcher: Sequence[str], signals: SignalForwarder
) -> subprocess.Popen[bytes] | None:
    """The cell's process; None if it is done, or if another process holds it for longer than a stale lock lasts."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        signals.child = cells.start_process(runs, cell, study.spec.threads, None, launcher, detached=False)
        if signals.child is not None:
            if signals.stop_requested:  # the signal came before the child was set
                signals.child.send_signal(signal.SIGUSR1)
            return signals.child
        if (runs / cell.folder / "DONE").exists() or signals.stop_requested or time.monotonic() > deadline:
            return None
        time.sleep(1)


def _requeue(cell: Cell, before: int | None, after: int | None) -> int:
    """Requeue. A cell without progress, say with a time limit too short to start in, is not requeued for ever."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    if (after or 0) <= (before or 0) and restarts.isdecimal() and int(restarts) >= MAX_RESTARTS_WITHOUT_CHECKPOINT:
        print(
            f"{cell.name}: stopped without a new checkpoint, after {restarts} restarts; give it more --time",
            flush=True,
        )
        return 1
    why_not = queue.requeue_self()
    print(f"{cell.name}: stopped at step {after or 0}; " + (why_not or "its job is requeued"), flush=True)
    return REQUEUE


def _record_row(study: Study, plan: Plan, runs: Path, cell: Cell, results: Path) -> None:
    """Record the cell's row. If that fails, the next study run or status does it."""
    try:
        row = rows.read_row(runs / cell.folder, study.name, cell.arm)
        if row is not None:
            rows.update_rows(study, [row], plan.ids(), results)
    except (ConfigError, KeyError) as error:
        print(f"warning: {cell.name} has no row yet: {error}", flush=True)

"""Progress of a step that may take long: reading a tree, checksums, packing, planning a study.

    with long_step("packing", total=9469, unit="images") as advance:
        for chunk in chunks:
            ...
            advance(len(chunk))

Nothing is shown of a step that is over soon. After a second there is a bar on a terminal, which vanishes at the end;
elsewhere one line after a few seconds, so that a log says what it waits for. Both go to standard error.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from paribus.core.terminal import find_console

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_ON_TERMINAL, PATIENCE = 1.0, 5.0  # seconds


@contextmanager
def long_step(what: str, total: int = 0, unit: str = "") -> Iterator[Callable[[int], None]]:
    """total: how many units there are, 0 if it is not known. Gives a function that takes how many more are done.

    Silent in all processes of a run but the first.
    """
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        yield lambda n: None
        return
    display = StepDisplay(what, total, unit)
    timer = threading.Timer(PATIENCE_ON_TERMINAL if sys.stderr.isatty() else PATIENCE, display.show)
    timer.daemon = True
    timer.start()
    try:
        yield display.advance
    finally:
        timer.cancel()
        display.end()


class StepDisplay:
    """What is shown of one step. `show` comes from the timer's thread, the rest from the one that works."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._ended = 0, False
        self._bar: Progress | None = None
        self._lock = threading.Lock()

    def advance(self, n: int) -> None:
        self._done += n
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def show(self) -> None:
        with self._lock, suppress(Exception):  # no step fails because of its display
            if self._ended or self._bar is not None:
                return
            console = find_console(sys.stderr)
            if console is None:
                print(self.format_line(), file=sys.stderr, flush=True)
                return
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
            from rich.progress import TimeRemainingColumn as Left

            counted = (MofNCompleteColumn(), TextColumn(self._unit), Left()) if self._total else (TimeElapsedColumn(),)
            bar = Progress(TextColumn("{task.description}"), BarColumn(), *counted, console=console, transient=True)
            bar.add_task(self._what, total=self._total or None, completed=self._done)
            bar.start()
            console.show_cursor(True)  # rich hides it, and a process that is killed could not show it again
            self._bar = bar

    def format_line(self) -> str:
        if not self._total:
            return f"{self._what} ..."
        return f"{self._what}: {self._done:,} of {self._total:,} {self._unit}".rstrip() + " ..."

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._bar is not None:
                self._bar.stop()

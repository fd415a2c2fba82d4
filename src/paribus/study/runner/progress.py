"""What a person sees of a launch: a line for each cell that ends, and on a terminal a bar below them."""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from paribus.core.terminal import clock, terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from paribus.study.plan import Cell
    from paribus.study.rows import Row
    from paribus.study.runner.cells import Standing


class Board:
    """Output that fails (a terminal that is gone, a pipe that nobody reads) is no reason to stop launching."""

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self._at = ""
        self._bar: Progress | None = None

    def begin(self, done: int, running: int, failed: int, total: int, missing: int) -> None:
        self.say(f"{total} cells: {done} done, {running} running, {missing} to run")
        screen = terminal() if missing or running else None
        if screen is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=screen, refresh_per_second=2)
            self._bar.add_task("", total=total)
            self._bar.start()

    def tick(self, done: int, running: int, failed: int, total: int, left: float | None) -> None:
        """left: seconds until all is done, None where there is nothing to tell it from."""
        told = [f"{running} running", *([f"{failed} failed"] if failed else [])]
        told += [f"about {clock(left)} left"] if left is not None else []
        self._at = ", ".join([f"{done}/{total} done", *told])
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, description=", ".join(told))

    def started(self, cell: Cell, process: int, device: str | None) -> None:
        if self._bar is None:
            self.say(f"start    {cell.name}: process {process}" + (f", GPU {device}" if device else ""))

    def adopted(self, cell: Cell, now: Standing) -> None:
        whose = f"process {now.process} on {now.host}" if now.process else "a process that has just started"
        self.say(f"running  {cell.name}: {whose}, not started here")

    def done(self, cell: Cell, metric: str, row: Row | None) -> None:
        value = row.metrics.get(metric) if row else None
        self.say(f"done     {cell.name}" + (f"  {metric} {value:.4f}" if value is not None else "") + self._standing())

    def failed(self, cell: Cell, why: str, again: bool) -> None:
        self.say(f"{'again   ' if again else 'FAILED  '} {cell.name}: {why}{self._standing()}")

    def _standing(self) -> str:
        return f"  ({self._at})" if self._bar is None and self._at else ""

    def say(self, text: str) -> None:
        line = f"{datetime.now():%H:%M:%S}  {text}"
        with suppress(OSError):
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                print(line, flush=True)

    def detach(self) -> None:
        """Plain lines from now on."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
            self._bar = None

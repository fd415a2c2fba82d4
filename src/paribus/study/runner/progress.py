"""Progress of a launch: a line for each cell that ends, and on a terminal a bar below them."""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from paribus.core.formatting import format_clock
from paribus.core.terminal import find_console

if TYPE_CHECKING:
    from rich.progress import Progress

    from paribus.study.plan import Cell
    from paribus.study.rows import Row
    from paribus.study.runner.cells import CellState


class LaunchProgress:
    """Output that fails (a closed terminal, a closed pipe) does not stop the launch."""

    def __init__(self) -> None:
        self.host = socket.gethostname()
        self._counts = ""
        self._bar: Progress | None = None

    def begin(self, done: int, running: int, failed: int, total: int, missing: int) -> None:
        self.print_line(f"{total} cells: {done} done, {running} running, {missing} to run")
        screen = find_console() if missing or running else None
        if screen is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=screen, refresh_per_second=2)
            self._bar.add_task("", total=total)
            self._bar.start()

    def update(self, done: int, running: int, failed: int, total: int, left: float | None) -> None:
        """left: seconds until all is done, None where it cannot be estimated."""
        parts = [f"{running} running", *([f"{failed} failed"] if failed else [])]
        parts += [f"about {format_clock(left)} left"] if left is not None else []
        self._counts = ", ".join([f"{done}/{total} done", *parts])
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, description=", ".join(parts))

    def started(self, cell: Cell, process: int, device: str | None) -> None:
        if self._bar is None:
            self.print_line(f"start    {cell.name}: process {process}" + (f", GPU {device}" if device else ""))

    def adopted(self, cell: Cell, now: CellState) -> None:
        owner = f"process {now.process} on {now.host}" if now.process else "a process that has just started"
        self.print_line(f"running  {cell.name}: {owner}, not started here")

    def done(self, cell: Cell, metric: str, row: Row | None) -> None:
        value = row.metrics.get(metric) if row else None
        self.print_line(
            f"done     {cell.name}" + (f"  {metric} {value:.4f}" if value is not None else "") + self._format_counts()
        )

    def failed(self, cell: Cell, why: str, again: bool) -> None:
        self.print_line(f"{'retry   ' if again else 'FAILED  '} {cell.name}: {why}{self._format_counts()}")

    def stopped(self, cell: Cell, step: int | None, again: bool) -> None:
        """step: of its newest checkpoint. again: it goes on as soon as there is a place."""
        where = f"with a checkpoint at step {step}" if step is not None else "before its first checkpoint"
        self.print_line(f"{'retry   ' if again else 'stopped '} {cell.name}: {'stopped ' if again else ''}{where}")

    def _format_counts(self) -> str:
        return f"  ({self._counts})" if self._bar is None and self._counts else ""

    def print_line(self, text: str) -> None:
        line = f"{datetime.now():%H:%M:%S}  {text}"
        with suppress(OSError):
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                print(line, flush=True)

    def detach(self) -> None:
        """Remove the bar: plain lines from now on."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
            self._bar = None

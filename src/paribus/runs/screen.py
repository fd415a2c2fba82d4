"""What a run prints: its description at the start, its result and useful next commands at the end.

Plain lines on standard output, the description in a frame on a terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.core import runfolder
from paribus.core.terminal import find_console
from paribus.runs.screen_text import (
    Outcome,
    RunDescription,
    align_rows,
    format_next_commands,
    format_result,
    format_result_line,
    format_rows,
)

if TYPE_CHECKING:
    from rich.panel import Panel

MAX_WIDTH = 100  # columns of the frame, on terminals that have more


@dataclass(frozen=True)
class Screen:
    """How much a run prints. command: as in Outcome. sweep: one of several runs, which print no next commands.
    job: which one of them, by the overrides in which it differs. started_at: when the command began, by
    time.perf_counter."""

    command: tuple[str, ...] = ()
    quiet: bool = False
    sweep: bool = False
    job: str = ""
    started_at: float = field(default_factory=time.perf_counter)

    @property
    def prefix(self) -> str:
        """Before a line of a quiet run of a sweep, which has no heading."""
        return f"{self.job}: " if self.quiet and self.job else ""

    def print_start(self, gather: Callable[[], RunDescription]) -> None:
        """Print what runs. Training starts even if the facts cannot be gathered or shown."""
        if self.quiet:
            return
        try:
            self._print_start(gather())
        except Exception as error:
            print(f"warning: could not display the run's summary: {error!r}", file=sys.stderr)

    def _print_start(self, description: RunDescription) -> None:
        if (console := find_console()) is not None:
            console.print(build_panel(description, min(console.width, MAX_WIDTH)))
        else:
            print("\n".join([description.title, *align_rows(format_rows(description))]), flush=True)

    def print_end(
        self,
        summary: Mapping[str, Any],
        folder: Path,
        start: int,
        packages: tuple[str, ...] = (),
        samples: bool = False,
    ) -> None:
        """Print the result. summary: as in summary.json. packages: of the recipe. samples: the method makes images."""
        outcome = Outcome(
            title=summary["title"],
            state=summary["state"],
            step=runfolder.newest_checkpoint_step(folder) or summary["step"],
            steps=summary["steps"],
            start=start,
            metrics=summary["metrics"],
            seconds=time.perf_counter() - self.started_at,
            folder=str(folder),
            seed=summary["seed"],
            command=self.command,
            packages=packages,
            continues=any(runfolder.COPIED in segment for segment in runfolder.read_segments(folder)),
            undecodable=summary.get("undecodable", {}).get("count", 0),
            samples=samples,
        )
        if self.quiet:
            print(self.prefix + format_result_line(outcome), flush=True)
            return
        lines = [*format_result(outcome), *([] if self.sweep else format_next_commands(outcome))]
        if (console := find_console()) is not None:
            console.print(lines[0], style="bold green" if outcome.state == "DONE" else "bold yellow", soft_wrap=True)
            console.print("\n".join(lines[1:]), soft_wrap=True)  # so that a long command can be copied whole
        else:
            print("\n".join(lines), flush=True)


def build_panel(description: RunDescription, width: int) -> Panel:
    """The description in a frame of this width; a long text wraps within its column."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    about = ""
    for label, text in format_rows(description):
        about = label or about  # a row without a label continues the one before
        table.add_row(label, Text(text, style="bold" if about == "technique" else ""))
    return Panel(
        table, title=Text(description.title, style="bold"), title_align="left", width=width, border_style="dim"
    )

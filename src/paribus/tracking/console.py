"""What a person sees while a run trains: a bar on a terminal, plain lines in CI, Slurm logs and pipes.

Values come only at log points, where training waits for the device anyway. `log` just keeps them; on a terminal a
thread of rich repaints once a second, so between log points only the clocks move and a step never waits for a screen.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.core.build import schema
from paribus.core.formatting import format_clock
from paribus.core.terminal import find_console

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from rich.console import RenderableType
    from rich.live import Live

REFRESH_PER_SECOND = 1.0  # as often as the clocks move
_FORMATS = {  # of a log entry: key -> its format, the most important first
    "train/loss": "loss {:.4f}",
    "throughput/samples_per_sec": "{:>7,.0f} images/s",
    "lr": "lr {:.2e}",
}


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run as of its last log entry. Times are seconds of one monotonic clock.

    started: step and time at which this process began. measured_from: the start of the pace measurement: `started`,
    and from the second entry on the first one, which leaves the slow first steps (compilation, warming caches) out of
    the estimate. latest: step and time of the last entry.
    accuracies: "val acc1" and so on -> (step, fraction) of the latest evaluation.
    """

    total: int
    started: tuple[int, float]
    measured_from: tuple[int, float]
    latest: tuple[int, float]
    values: Mapping[str, float] = field(default_factory=dict)
    accuracies: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def at_start(cls, step: int, total: int, now: float) -> RunProgress:
        return cls(total, (step, now), (step, now), (step, now))

    def with_entry(self, step: int, values: Mapping[str, float], now: float) -> RunProgress:
        """With one more entry."""
        first = self.latest == self.started
        found = {key.replace("/", " "): (step, v) for key, v in values.items() if key.endswith("/acc1")}
        return replace(
            self,
            measured_from=self.measured_from if first or self.measured_from != self.started else self.latest,
            latest=(step, now),
            values={**self.values, **values},
            accuracies={**self.accuracies, **found},
        )

    def format_eta(self, now: float) -> str:
        """What is left at the pace so far, evaluations and checkpoints included: "2:30".

        "2:30+" before the first evaluation: how long one takes is not known yet. "?" before the first entry.
        """
        steps = self.latest[0] - self.measured_from[0]
        if not steps:
            return "?"
        left = (self.latest[1] - self.measured_from[1]) / steps * (self.total - self.latest[0])
        return format_clock(max(0.0, left - (now - self.latest[1]))) + ("" if self.accuracies else "+")


def format_line(progress: RunProgress, new: Mapping[str, float], now: float) -> str:
    """A log entry in plain text. An accuracy of an earlier step is shown with that step."""
    step, width = progress.latest[0], len(str(progress.total))
    parts = [f"step {step:>{width}}/{progress.total}"]
    parts += [form.format(new[key]) for key, form in _FORMATS.items() if key in new]
    if step < progress.total:
        parts.append(f"ETA {progress.format_eta(now)}")
    for name, (measured, accuracy) in progress.accuracies.items():
        text = f"{name} {accuracy:.2%}"
        parts.append(text if measured == step else f"({text} at {measured})")
    return "  ".join(parts)


def format_details(progress: RunProgress, width: int) -> str:
    """The values under the bar, as many as fit, the most important first."""
    values = {
        key: form.format(progress.values[key]).strip() for key, form in _FORMATS.items() if key in progress.values
    }
    loss = [values.pop("train/loss")] if "train/loss" in values else []
    parts = [*loss, *(f"{name} {value:.2%}" for name, (_, value) in progress.accuracies.items()), *values.values()]
    shown = ""
    for part in parts or ["waiting for the first values"]:
        longer = f"{shown}  {part}" if shown else part
        if len(longer) > width:
            break
        shown = longer
    return shown


def build_bar(progress: RunProgress, width: int, now: float) -> RenderableType:
    """Two lines and an empty one, where the cursor rests: whoever ends the process leaves a clean prompt."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    step = progress.latest[0]
    numbers = f"{step:>{len(str(progress.total))}}/{progress.total}"
    times = f"{format_clock(now - progress.started[1])}  ETA {progress.format_eta(now)}"
    first = Table.grid(padding=(0, 2), expand=True)
    first.add_column(ratio=1)
    first.add_column(no_wrap=True)
    first.add_row(ProgressBar(total=max(1, progress.total), completed=step), Text(f"{numbers}  {times}"))
    return Group(first, Text(format_details(progress, width), no_wrap=True, overflow="crop"), Text(""))


@contextmanager
def delay_signals() -> Iterator[None]:
    """Signals wait for the end of this block. Ctrl-C writes a line, and a line that is written while rich is opening or
    closing the bar would leave half of it on the screen."""
    if threading.current_thread() is not threading.main_thread():  # where Python handles no signals
        yield
        return
    caught: list[tuple[int, Any]] = []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    python_handlers = {n: handler for n, handler in handlers.items() if callable(handler)}
    for number in python_handlers:
        signal.signal(number, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in python_handlers.items():
            signal.signal(number, handler)
        for number, frame in caught:
            python_handlers[signal.Signals(number)](number, frame)


class ConsoleTracker:
    """The tracker: keeps the run's progress, and shows it."""

    def __init__(self, start: int, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._progress = RunProgress.at_start(start, total, now())
        self._terminal = find_console()
        self._live = None if self._terminal is None else self._start_live(self._terminal)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = self._now()
        self._progress = self._progress.with_entry(step, values, now)
        if self._live is None:
            print(format_line(self._progress, values, now), flush=True)

    def close(self, summary: Mapping[str, Any]) -> None:
        if self._live is not None:
            with delay_signals():
                self._live.stop()

    def _start_live(self, console: Terminal) -> Live:
        """The bar, until `stop` removes it. Whatever is printed meanwhile appears above it."""
        from rich.live import Live

        live = Live(
            console=console,
            get_renderable=lambda: build_bar(self._progress, console.width, self._now()),
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # errors that go to a file must reach it
        )
        with delay_signals():
            live.start(refresh=True)
            console.show_cursor(True)  # rich hides it, and a process that is killed could not show it again
        return live


@schema
class ConsoleLines:
    """Step, loss, accuracy, images per second, learning rate and remaining time on standard output."""

    def __call__(self, folder: Path, start: int, total: int) -> ConsoleTracker:
        return ConsoleTracker(start, total)

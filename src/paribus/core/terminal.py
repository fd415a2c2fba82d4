"""Whether standard output is a terminal that takes a bar and colours; output that survives write errors."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TextIO

from paribus.core.renamed import old_names

if TYPE_CHECKING:
    from rich.console import Console


class TolerantStdout:
    """Standard output that drops further text once it cannot be written (a closed pipe, a full disk), so that no
    training ends because of it. failure: the first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fall_silent(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        self.failure = self.failure or error
        with suppress(OSError):  # what is still buffered is dropped, too
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def find_console(file: IO[str] | None = None) -> Console | None:
    """rich's console where a bar and colours make sense; None where plain lines do: a file, a pipe, CI, TERM=dumb.

    rich by itself would also treat a file as a terminal when FORCE_COLOR is set.
    """
    out = sys.stdout if file is None else file
    ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if ci or not out.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return None
    from rich.console import Console

    return Console(file=out, force_terminal=True, force_interactive=True, highlight=False, markup=False, emoji=False)


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__,
        {"Tolerant": "TolerantStdout", "terminal": "find_console", "clock": "paribus.core.formatting.format_clock"},
    )

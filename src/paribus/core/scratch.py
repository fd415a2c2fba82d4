"""A temporary folder for a command that trains in it: gone afterwards, however the command ends."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that is removed however this ends, also by SIGTERM and Ctrl-C; those end the process by
    SystemExit meanwhile, so that what stands in `finally` is done too. In the main thread only."""

    def exit_on_signal(number: int, _: object) -> None:
        print("paribus: interrupted, before a verdict", file=sys.stderr)
        sys.exit(128 + number)

    before = {number: signal.signal(number, exit_on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

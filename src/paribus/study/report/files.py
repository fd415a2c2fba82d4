"""Writing the files of a report: whether it is allowed, and in one piece."""

import os
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically


def check_writable(path: Path) -> None:
    """Raise ConfigError if the file may not be written. A rename would replace even a file that is write-protected, so
    this checks the file's own permission."""
    if path.exists() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
        raise ConfigError(f"{path} is write-protected; nothing was written; chmod u+w {path} allows it")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{path.parent} is write-protected; nothing was written")


def write_file(path: Path, text: str) -> None:
    """Write a file that the user requested. Raises ConfigError."""
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error

"""Which C compiler there is, and where compiled kernels are kept. No torch here: `paribus doctor` asks too."""

import os
import shlex
import shutil
from pathlib import Path


def find_compiler() -> list[str]:
    """The command of the C compiler, in words: CC, else cc, gcc or clang; [] if there is none."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return shlex.split(os.environ.get("CC", "")) or ([found] if found else [])


def cache_folder() -> Path:
    """PARIBUS_CACHE, else XDG_CACHE_HOME or ~/.cache, under paribus."""
    own = os.environ.get("PARIBUS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paribus"

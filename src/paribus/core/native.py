"""C kernels for a CPU: compiled at first use, called through ctypes, on torch's own threads.

A compiled file is kept in the user's cache folder (PARIBUS_CACHE, else XDG_CACHE_HOME or ~/.cache, under paribus),
named by a hash of all that it depends on. It is written aside and renamed, so processes that start together do no harm.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

# no fused multiply-adds: with them another CPU would give other bits; the rest changes none
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# levels and not -march=native: the cache folder may be shared by unlike machines
_LEVELS = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}


class NotCompiled(Exception):
    """There is no compiler, it failed, or nothing can be written: the reason in one line."""


def library(source: Path, name: str, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The functions of one C file, compiled with these -D flags if they were not yet. name: of the file that is kept.

    Raises NotCompiled.
    """
    try:
        return ctypes.CDLL(str(_built(source, name, defines)))
    except (OSError, subprocess.SubprocessError) as error:
        raise NotCompiled(_reason(error)) from error


@functools.cache
def parallel() -> Any:
    """GOMP_parallel of the OpenMP library in this process, or None: torch's team of threads, warm from the backward
    pass. Called as (function(void *), argument, number of threads, 0)."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):
        return None


def _reason(error: Exception) -> str:
    told = getattr(error, "stderr", None) or str(error)
    return told.strip().splitlines()[-1] if told.strip() else type(error).__name__


def _built(source: Path, name: str, defines: tuple[str, ...]) -> Path:
    """The compiled file, made if it is not there. Raises OSError or SubprocessError."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    compiler = shlex.split(os.environ.get("CC", "")) or ([found] if found else [])
    if not compiler:
        raise OSError("found neither cc, gcc nor clang, and CC is not set")
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    level = _LEVELS.get(torch.backends.cpu.get_cpu_capability(), ()) if platform.machine() == "x86_64" else ()
    flags = (*_FLAGS, *level, *defines)
    facts = (source.read_text(), *flags, version, platform.machine(), platform.system())
    made = _folder() / f"{name}-{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:24]}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
            aside = Path(scratch) / made.name
            command = [*compiler, *flags, str(source), "-o", str(aside), "-lm"]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            aside.replace(made)
    return made


def _folder() -> Path:
    own = os.environ.get("PARIBUS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paribus"

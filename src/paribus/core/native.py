"""C kernels for a CPU: compiled at first use, called through ctypes, on torch's own threads.

A compiled file is kept in the user's cache folder (PARIBUS_CACHE, else XDG_CACHE_HOME or ~/.cache, under paribus),
named by a hash of all that it depends on. Written to a temporary file and renamed, so processes may start together.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paribus.core.compiler import cache_folder, find_compiler
from paribus.core.errors import to_one_line
from paribus.core.renamed import old_names

# no fused multiply-adds: with them another CPU would give other bits; the rest changes none
_COMPILER_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
)
# levels and not -march=native: the cache folder may be shared by unlike machines
_CPU_FLAGS = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}


class CompileError(Exception):
    """There is no compiler, it failed, or nothing can be written: the reason in one line."""


def load_library(source: Path, name: str, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The functions of one C file, compiled with these -D flags unless cached. name: of the cached file.

    Raises CompileError.
    """
    try:
        return ctypes.CDLL(str(_compile(source, name, defines)))
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(_explain_error(error)) from error


@functools.cache
def openmp_parallel() -> Any:
    """GOMP_parallel of the OpenMP library in this process, or None: torch's team of threads, warm from the backward
    pass. Called as (function(void *), argument, number of threads, 0)."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):
        return None


def _explain_error(error: Exception) -> str:
    message = getattr(error, "stderr", None)  # all of it: the compiler's last line is often its least
    return to_one_line(message if isinstance(message, str) and message.strip() else str(error)) or type(error).__name__


def _compile(source: Path, name: str, defines: tuple[str, ...]) -> Path:
    """The compiled file, from the cache if it is there. Raises OSError or SubprocessError."""
    compiler = find_compiler()
    if not compiler:
        raise OSError("found neither cc, gcc nor clang, and CC is not set")
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    level = _CPU_FLAGS.get(torch.backends.cpu.get_cpu_capability(), ()) if platform.machine() == "x86_64" else ()
    flags = (*_COMPILER_FLAGS, *level, *defines)
    hashed = (source.read_text(), *flags, version, platform.machine(), platform.system())
    target = cache_folder() / f"{name}-{hashlib.sha256(chr(0).join(hashed).encode()).hexdigest()[:24]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            temporary = Path(scratch) / target.name
            command = [*compiler, *flags, str(source), "-o", str(temporary), "-lm"]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            temporary.replace(target)
    return target


if not TYPE_CHECKING:
    __getattr__ = old_names(
        __name__, {"NotCompiled": "CompileError", "library": "load_library", "parallel": "openmp_parallel"}
    )

"""What makes autograd run on fake CUDA tensors: hooks.cpp, compiled once for each version of torch."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("hooks.cpp")


def why_not_here() -> str | None:
    """Why these tests cannot run on this machine; None: they can."""
    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA"
    if torch.cuda.is_available():
        return "a real GPU is visible, which fake CUDA tensors would be mixed up with; CUDA_VISIBLE_DEVICES= hides it"
    try:
        _library()
    except (OSError, subprocess.SubprocessError) as error:
        text = getattr(error, "stderr", None) or str(error)
        return f"tests/fake_cuda/hooks.cpp cannot be compiled: {' '.join(text.split())[:300]}"
    return None


@contextmanager
def cuda_hooks() -> Iterator[None]:
    """Inside, backward runs on fake CUDA tensors."""
    library = _library()
    library.install()
    try:
        yield
    finally:
        library.uninstall()


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises OSError or SubprocessError."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise OSError("found neither g++, clang++ nor c++, and CXX is not set")
    depends_on = f"{_SOURCE.read_text()}{torch.__version__}{torch.__file__}{compiler}"
    key = hashlib.sha256(depends_on.encode()).hexdigest()[:24]
    own = os.environ.get("PARIBUS_CACHE")
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paribus"
    target = folder / f"fake-cuda-{key}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch_folder = Path(torch.__file__).parent
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # renamed into place: processes may start together
            made = Path(scratch) / target.name
            flags = ["-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}"]
            link = [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
            command = [compiler, *flags, str(_SOURCE), "-o", str(made), *link]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
            made.replace(target)
    return ctypes.CDLL(str(target))

"""The C kernel of pixels.c through ctypes: draws, crops and normalisation of a batch on a CPU in one call."""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.native import NotCompiled, library, parallel

_SOURCE = Path(__file__).with_name("pixels.c")
MOST_CHANNELS = 4  # as in pixels.c
_POINTERS = ("images", "rows", "ids", "boxes", "scale", "shift", "out", "out_bytes")
_NUMBERS = ("count", "height", "width", "channels", "out_height", "out_width", "pad", "key", "flip", "channels_last")


class Job(ctypes.Structure):
    """pixels.c explains the fields; the last two are its own."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in (*_NUMBERS, "support", "threads", "next", "failed")),
    ]


@functools.cache
def kernels() -> Any:
    """The compiled functions, or None after one warning that says why there are none."""
    try:
        compiled = library(_SOURCE, "pixels")
    except NotCompiled as error:
        warnings.warn(
            f"data on a CPU is fastest with a C compiler and a folder for what it makes: {error}; tensor operations "
            "are used instead, with the same results",
            stacklevel=2,
        )
        return None
    compiled.pixels.restype = ctypes.c_int
    compiled.pixels.argtypes = [ctypes.POINTER(Job), ctypes.c_void_p]
    compiled.draws.restype = None
    compiled.draws.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return compiled


def run(job: Job) -> None:
    """Do the job on torch's threads. Raises MemoryError."""
    job.threads = torch.get_num_threads()
    if kernels().pixels(job, parallel()):
        raise MemoryError("no memory for the rows of an image")


def drawn(key: int, ids: Tensor, n: int) -> Tensor:
    """core/streams.uniform_from for ids in the memory of a CPU: the same numbers, without thirty small operations."""
    ids = ids.contiguous()
    out = torch.empty(len(ids), n)
    kernels().draws(key, ids.data_ptr(), len(ids), n, out.data_ptr())
    return out

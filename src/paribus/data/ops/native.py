"""The C kernels through ctypes, for images on a CPU: inputs.c draws, crops and normalises, color.c changes colours and
moves pixels."""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.native import CompileError, load_library, openmp_parallel

_SOURCE = Path(__file__).with_name("inputs.c")
_COLOR_SOURCE = Path(__file__).with_name("color.c")
MAX_CHANNELS = 4  # as in inputs.c
_POINTERS = ("images", "rows", "ids", "boxes", "scale", "shift", "out", "out_bytes")
_NUMBERS = ("count", "height", "width", "channels", "out_height", "out_width", "pad", "key", "flip", "channels_last")


class KernelArguments(ctypes.Structure):
    """The Job of inputs.c, which explains the fields; it uses the last two itself."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in (*_NUMBERS, "support", "threads", "next", "failed")),
    ]


class ColorKernelArguments(ctypes.Structure):
    """The Job of color.c, which explains the fields; it uses the last two itself."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("images", "operations", "arguments", "fill")),
        *((name, ctypes.c_int64) for name in ("count", "height", "width", "channels", "turns", "bicubic")),
        *((name, ctypes.c_int64) for name in ("threads", "next", "failed")),
    ]


_OPERATIONS = (
    "none", "brightness", "contrast", "saturation", "hue", "sharpness", "autocontrast", "equalize", "invert",
    "posterize", "solarize", "solarize_add", "affine",
)  # fmt: skip
OPERATION_CODES = {name: code for code, name in enumerate(_OPERATIONS)}  # the enum of color.c


@functools.cache
def load_kernels() -> Any:
    """The compiled functions, or None after one warning that says why there are none."""
    try:
        compiled: Any = load_library(_SOURCE, "pixels")
        color: Any = load_library(_COLOR_SOURCE, "tones")
    except CompileError as error:
        warnings.warn(
            f"data on a CPU is fastest with a C compiler and a writable cache folder: {error}; tensor operations "
            "are used instead, with the same results",
            stacklevel=2,
        )
        return None
    compiled.pixels.restype = ctypes.c_int
    compiled.pixels.argtypes = [ctypes.POINTER(KernelArguments), ctypes.c_void_p]
    compiled.draws.restype = None
    compiled.draws.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    color.tones.restype = ctypes.c_int
    color.tones.argtypes = [ctypes.POINTER(ColorKernelArguments), ctypes.c_void_p]
    compiled.change = color.tones
    return compiled


def run_kernel(job: KernelArguments) -> None:
    """Run the kernel on torch's threads. Raises MemoryError."""
    job.threads = torch.get_num_threads()
    if load_kernels().pixels(job, openmp_parallel()):
        raise MemoryError("no memory for the rows of an image")


def draw_uniform(key: int, ids: Tensor, n: int) -> Tensor:
    """core/streams.uniform_from_key for ids on a CPU: the same numbers, without thirty small tensor operations."""
    ids = ids.contiguous()
    out = torch.empty(len(ids), n)
    load_kernels().draws(key, ids.data_ptr(), len(ids), n, out.data_ptr())
    return out


def has_color_kernel(images: Tensor) -> bool:
    """Whether `apply_operations` takes these images."""
    return images.is_cpu and images.shape[3] in (1, 3) and load_kernels() is not None


def apply_operations(
    images: Tensor, operations: Tensor, arguments: Tensor, fill: tuple[int, ...] = (), bicubic: bool = False
) -> Tensor:
    """Each image with its own operations, one after another.

    images: (b, h, w, c) uint8, not changed. operations: (b, turns) of OPERATION_CODES. arguments: (b, turns, 6)
    float64, first what color.py calls factor, threshold and so on, or an affine matrix. fill: c grey levels for pixels
    outside a moved image.
    """
    out = images.clone(memory_format=torch.contiguous_format)
    operations, arguments = operations.to(torch.int32).contiguous(), arguments.double().contiguous()
    levels = torch.tensor(fill or (0,) * images.shape[3])
    job = ColorKernelArguments(
        images=out.data_ptr(),
        operations=operations.data_ptr(),
        arguments=arguments.data_ptr(),
        fill=levels.data_ptr(),
        count=len(out),
        height=out.shape[1],
        width=out.shape[2],
        channels=out.shape[3],
        turns=operations.shape[1],
        bicubic=bicubic,
        threads=torch.get_num_threads(),
    )
    if load_kernels().change(job, openmp_parallel()):
        raise MemoryError("no memory for a copy of an image")
    return out

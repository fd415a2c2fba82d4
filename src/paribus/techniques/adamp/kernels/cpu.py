"""A projecting step as a C kernel, for float32 and float64 on a CPU: compiled at first use (core/native.py)."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paribus.core.native import CompileError, load_library, openmp_parallel
from paribus.techniques.adamp.kernels.params import (
    AdamRule,
    Options,
    ParamTensors,
    ProjectionStats,
    UpdateRule,
    memory_layout,
)

_SOURCE = Path(__file__).with_suffix(".c")
_C_TYPES = {torch.float32: ("float", "sqrtf"), torch.float64: ("double", "sqrt")}


class _RuleStruct(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("lr", "decay", "delta", "wd_ratio", "eps", "beta1", "beta2")),
        *((name, ctypes.c_int32) for name in ("is_adam", "nesterov", "alias", "threads")),
    ]


def is_supported(param: ParamTensors) -> bool:
    """Whether the kernel can update this parameter: on a CPU, with channels on the outermost axis in memory."""
    return (
        param.weight.device.type == "cpu"
        and param.weight.dtype in _C_TYPES
        and (not param.is_tested or memory_layout(param)[0] == 1)
    )


def take_step(rule: UpdateRule, options: Options, params: list[ParamTensors]) -> list[ProjectionStats]:
    """One step of parameters of one dtype that `is_supported` accepts and for which there is a `kernel`."""
    dtype = params[0].weight.dtype
    step = kernel(dtype)
    assert step is not None
    numbers: list[int] = []
    for param in params:
        states = [s.data_ptr() for s in param.states]
        counter = param.step.data_ptr() if param.step is not None else 0
        weight = param.weight
        rows = weight.shape[param.axis] if param.is_tested else 0
        numbers += (weight.data_ptr(), param.gradient.data_ptr(), states[0], states[-1], counter, weight.numel(), rows)
    view = torch.empty(len(params), dtype=torch.int32)
    norm = torch.empty(len(params), dtype=torch.float64)
    status = step(
        ctypes.byref(_pack_rule(rule, options)),
        (ctypes.c_int64 * len(numbers))(*numbers),
        ctypes.c_int64(len(params)),
        ctypes.c_void_p(view.data_ptr()),
        ctypes.c_void_p(norm.data_ptr()),
        openmp_parallel(),
    )
    if status:
        raise MemoryError("AdamP/SGDP, fused=True: no memory for the row sums")
    if not options.collects_stats:
        return []
    tested = torch.tensor([param.is_tested for param in params])
    view = view[tested]
    return [ProjectionStats(view == 1, view == 2, norm[tested].to(dtype))]


def _pack_rule(rule: UpdateRule, options: Options) -> _RuleStruct:
    lr = options.lr
    if isinstance(lr, Tensor):  # read without .item()
        lr_on_cpu = lr.to("cpu", torch.float64)
        lr = ctypes.c_double.from_address(lr_on_cpu.data_ptr()).value
    if isinstance(rule, AdamRule):
        own = (rule.beta1, rule.beta2, True, rule.nesterov, False)
    else:
        own = (rule.momentum, rule.dampening, False, rule.nesterov, rule.alias and not rule.nesterov)
    return _RuleStruct(
        lr, options.decay, options.delta, options.wd_ratio, options.eps, *own, threads=torch.get_num_threads()
    )


@functools.cache
def kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    """The compiled step for this dtype, or None after one warning that says why there is none."""
    real, root = _C_TYPES[dtype]
    try:
        compiled = load_library(_SOURCE, f"projected-{real}", (f"-DREAL={real}", f"-DSQRT={root}"))
    except CompileError as error:
        _warn_once(str(error))
        return None
    step: Any = compiled.projecting_step
    step.restype = ctypes.c_int
    return step


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"fused=True on a CPU needs a C compiler and a writable cache folder: {reason}; "
        "the default (foreach) is used instead, with the same results to rounding",
        stacklevel=2,
    )

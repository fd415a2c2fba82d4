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

from paribus.core.native import NotCompiled, library, parallel
from paribus.techniques.adamp.kernels.leaves import Adam, Leaf, Options, Rule, Seen, in_memory

_SOURCE = Path(__file__).with_suffix(".c")
_KINDS = {torch.float32: ("float", "sqrtf"), torch.float64: ("double", "sqrt")}


class _Rule(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("lr", "decay", "delta", "wd_ratio", "eps", "beta1", "beta2")),
        *((name, ctypes.c_int32) for name in ("is_adam", "nesterov", "alias", "threads")),
    ]


def takes(leaf: Leaf) -> bool:
    """Whether the kernel can move this leaf: on a CPU, with channels on the outermost axis in memory."""
    return (
        leaf.weight.device.type == "cpu"
        and leaf.weight.dtype in _KINDS
        and (not leaf.projects or in_memory(leaf)[0] == 1)
    )


def move(rule: Rule, options: Options, leaves: list[Leaf]) -> list[Seen]:
    """One step of leaves of one dtype that `takes` accepts and for which `kernel` has been found."""
    dtype = leaves[0].weight.dtype
    step = kernel(dtype)
    assert step is not None
    numbers: list[int] = []
    for leaf in leaves:
        states = [s.data_ptr() for s in leaf.states]
        counter = leaf.step.data_ptr() if leaf.step is not None else 0
        weight = leaf.weight
        rows = weight.shape[leaf.axis] if leaf.projects else 0
        numbers += (weight.data_ptr(), leaf.gradient.data_ptr(), states[0], states[-1], counter, weight.numel(), rows)
    view = torch.empty(len(leaves), dtype=torch.int32)
    norm = torch.empty(len(leaves), dtype=torch.float64)
    status = step(
        ctypes.byref(_told(rule, options)),
        (ctypes.c_int64 * len(numbers))(*numbers),
        ctypes.c_int64(len(leaves)),
        ctypes.c_void_p(view.data_ptr()),
        ctypes.c_void_p(norm.data_ptr()),
        parallel(),
    )
    if status:
        raise MemoryError("AdamP/SGDP, fused=True: no memory for the row sums")
    if not options.watched:
        return []
    tested = torch.tensor([leaf.projects for leaf in leaves])
    view = view[tested]
    return [Seen(view == 1, view == 2, norm[tested].to(dtype))]


def _told(rule: Rule, options: Options) -> _Rule:
    lr = options.lr
    if isinstance(lr, Tensor):  # read without asking torch for a number
        there = lr.to("cpu", torch.float64)
        lr = ctypes.c_double.from_address(there.data_ptr()).value
    if isinstance(rule, Adam):
        own = (rule.beta1, rule.beta2, True, rule.nesterov, False)
    else:
        own = (rule.momentum, rule.dampening, False, rule.nesterov, rule.alias and not rule.nesterov)
    return _Rule(lr, options.decay, options.delta, options.wd_ratio, options.eps, *own, threads=torch.get_num_threads())


@functools.cache
def kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    """The compiled step for this dtype, or None after one warning that says why there is none."""
    real, root = _KINDS[dtype]
    try:
        compiled = library(_SOURCE, f"projected-{real}", (f"-DREAL={real}", f"-DSQRT={root}"))
    except NotCompiled as error:
        _warn_once(str(error))
        return None
    step: Any = compiled.projecting_step
    step.restype = ctypes.c_int
    return step


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"fused=True on a CPU needs a C compiler and a folder for what it makes: {reason}; "
        "the default (foreach) is used instead, with the same results to rounding",
        stacklevel=2,
    )

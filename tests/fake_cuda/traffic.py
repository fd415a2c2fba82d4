"""What an operation costs a device: whether it starts anything there, and how many bytes it reads and writes."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

aten = torch.ops.aten
# they make or relabel memory and leave its contents alone
_FREE = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided",
    "aten::_unsafe_view", "aten::detach", "aten::lift_fresh", "aten::record_stream", "aten::set_", "aten::resize_",
}  # fmt: skip
# of the first argument they read as much as they give, not all of it: a batch of a data set
_GATHERS = {"aten::index", "aten::_unsafe_index", "aten::gather", "aten::index_select", "aten::embedding"}
_OVERWRITES = {"aten::copy_", "aten::fill_", "aten::zero_", "aten::normal_", "aten::uniform_", "aten::bernoulli_"}


def find_tensors(tree: Any) -> list[Tensor]:
    """The tensors in an operation's operands or results. torch's tree_leaves takes as long as the operation."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        return []
    return [tensor for branch in tree for tensor in find_tensors(branch)]


@functools.cache
def _name(func: Any) -> str:
    return func._schema.name


@functools.cache
def is_free(func: Any) -> bool:
    """Whether the device does nothing: a view, or memory without contents."""
    if _name(func) in _FREE or func.namespace in ("prim", "prims"):
        return True
    aliases = [a.alias_info for a in (*func._schema.arguments, *func._schema.returns) if a.alias_info is not None]
    returned = any(r.alias_info is not None for r in func._schema.returns)
    return returned and not any(info.is_write for info in aliases)


@functools.cache
def _written(func: Any) -> tuple[bool, ...]:
    return tuple(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)


def count_bytes(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Bytes that the operation reads and writes if every tensor is read once and every result written once."""
    written = [arg for arg, is_written in zip(args, _written(func), strict=False) if is_written]
    results = _on_device(out) or _on_device(written)
    to_write = sum(map(_size, results))
    inputs = args[1:] if _name(func) in _GATHERS | _OVERWRITES else args
    read = {id(t): t for t in _on_device((inputs, kwargs))}
    return to_write + sum(map(_size, read.values())) + (to_write if _name(func) in _GATHERS else 0)


def _on_device(tree: Any) -> list[FakeTensor]:
    return [tensor for tensor in find_tensors(tree) if isinstance(tensor, FakeTensor)]


def _size(tensor: Tensor) -> int:
    """Bytes of memory behind it: what is expanded is there once."""
    numbers = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= size if stride else 1
    return numbers * tensor.element_size()

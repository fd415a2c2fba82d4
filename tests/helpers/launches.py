"""What a piece of work would cost a GPU, counted without one: kernels started, bytes moved, and waits of the host.

Tensors on torch's `meta` device stand for a GPU's: they have shapes and no numbers, so whatever must read one fails or
is told as a wait, and a batch of full size costs nothing.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
META = torch.device("meta")
_FREE = {aten.detach.default, aten.lift_fresh.default, aten._unsafe_view.default}
_EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default}
_READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
_COPIED = {torch.tensor, torch.as_tensor, torch.asarray}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


@dataclass
class Launches(TorchDispatchMode):
    """launches: operations on the device, copies to it among them; views are free. bytes: of their inputs and outputs,
    of an expanded tensor only what is stored. waits: what the host would wait for, a line each."""

    launches: int = 0
    bytes: int = 0
    waits: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __enter__(self) -> "Launches":
        self._constants = _Constants(self)
        self._constants.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._constants.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if wait := _wait(func, args, kwargs, given):
            self.waits.append(wait)
        out = func(*args, **kwargs)
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        there = {id(x): x for x in (*given, *made) if x.is_meta}
        if there and not func.is_view and func not in _FREE | _EMPTY:
            self.launches += 1
            self.names.append(str(func))
            self.bytes += sum(_stored_bytes(x) for x in there.values())
        return out


class _Constants(TorchFunctionMode):
    """Sees a host's numbers made into a tensor of the device. On `meta` there is nothing to copy, so the operations do
    not show that a GPU would be waited for."""

    def __init__(self, launches: Launches) -> None:
        super().__init__()
        self._launches = launches

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = isinstance(args[0], Tensor) and args[0].is_meta if args else False
        if (func in _COPIED and out.is_meta and not given) or (func is Tensor.new_tensor and given):
            self._launches.waits.append(f"blocking copy of a constant {tuple(out.shape)} {out.dtype}")
        return out


def _wait(func, args, kwargs, given: list[Tensor]) -> str | None:
    """Why the host would wait for this operation; None if it would not."""
    on_device = [x for x in given if x.is_meta]
    if func in _READS and on_device:
        return f"{func} reads the device"
    crosses = func is aten._to_copy.default and args[0].is_meta != (kwargs.get("device", args[0].device) == META)
    if crosses and not kwargs.get("non_blocking"):
        return f"blocking copy of {tuple(args[0].shape)} {args[0].dtype}"
    if func is aten.copy_.default and args[0].is_meta != args[1].is_meta and not (args[2:] or (False,))[0]:
        return f"blocking copy into {tuple(args[0].shape)} {args[0].dtype}"
    if func in _INDEXED and args[0].is_meta:
        for index in (x for x in args[1] if x is not None):
            if not index.is_meta:
                return f"indexed by a CPU tensor {tuple(index.shape)}"
            if index.dtype in (torch.bool, torch.uint8):
                return "indexed by a mask"
    return None


def _stored_bytes(x: Tensor) -> int:
    count = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride else min(size, 1)
    return count * x.element_size()

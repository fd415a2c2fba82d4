"""A fake CUDA device: it counts what a step would do, and tells where the host would wait for it.

CPU tensors stay real. CUDA tensors are torch's FakeTensors, which have a shape, a layout and a device and no values, so
a step of ResNet-50 takes a second and no memory. FakeTensorMode alone refuses to mix devices in an operation; it is
silent where real CUDA is not wrong but slow, and that is what this adds: copies for which the host waits, reading
values, and indices or masks that have to travel.
"""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode

import paribus
from fake_cuda.traffic import count_bytes, find_tensors, is_free

aten = torch.ops.aten
_INDEXING = (
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
)
_PINNING = (aten._pin_memory.default,)
_FILLING = (aten.normal_.default, aten.uniform_.default)  # with values that nobody sees
_PACKAGE = str(Path(paribus.__file__).parent)
_NOT_OURS = (str(Path(torch.__file__).parent), "importlib", "contextlib")


class DeviceMismatch(AssertionError):
    """Tensors of two devices meet in an operation."""


class HostWaits(AssertionError):
    """The host has to wait for a value that a fake device does not have."""


@dataclass
class Count:
    """Of one part of a step. launches: operations that reach the device, a lower bound for its kernels. bytes: that
    they read and write. waits: what the host would wait for, and where."""

    launches: int = 0
    bytes: int = 0
    waits: list[str] = field(default_factory=list)


def place(depth: int = 3) -> str:
    """The innermost lines of paribus on the stack, innermost first; else the innermost that is not torch's."""
    ours, other, frame = list[str](), "", sys._getframe(1)
    while frame is not None and len(ours) < depth:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            line = f"{file.removeprefix(_PACKAGE + '/')}:{frame.f_lineno}"
            ours += [line] if line not in ours[-1:] else []  # a comprehension has a frame of its own
        elif not other and file != __file__ and not any(part in file for part in _NOT_OURS):
            other = f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return " < ".join(ours) or other


class _FakeTensors(FakeTensorMode):
    """A GPU seems to be there, but must not be touched."""

    @property
    def avoid_device_init(self) -> bool:
        return True


@functools.cache
def _one_mode() -> _FakeTensors:
    """One for all devices: a table that a function keeps for each device is of the right mode the next time too."""
    return _FakeTensors(allow_non_fake_inputs=True, allow_fallback_kernels=False)


class FakeDevice(TorchDispatchMode):
    """While entered, tensors on CUDA are fake, and every `count` that is open counts. collectives: name and tensors of
    each, as NCCL would get them."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors = _one_mode()
        self._open: list[Count] = []
        self.collectives: list[tuple[str, list[Tensor]]] = []

    def __enter__(self) -> "FakeDevice":
        torch._C._ensureCUDADeviceGuardSet()
        self._lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") shows its copy
        self._repr = FakeTensor.__repr__
        FakeTensor.__repr__ = lambda tensor, **_: self._show(tensor)  # what print, str, %r and f-strings end up with
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        FakeTensor.__repr__ = self._repr
        torch._C._set_only_lift_cpu_tensors(self._lifts)

    def _show(self, tensor: Tensor) -> str:
        self.wait("printing a tensor")
        return f"tensor of {_describe(tensor)} on CUDA"

    @contextmanager
    def count(self) -> Iterator[Count]:
        """Counts what happens inside. May be nested: each counts."""
        count = Count()
        self._open.append(count)
        try:
            yield count
        finally:
            self._open.remove(count)

    def wait(self, what: str) -> None:
        for count in self._open:
            count.waits.append(f"{what} at {place()}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):  # the most frequent by far
            return args[0].fake_device
        tensors = find_tensors((args, kwargs))
        on_device = [t for t in tensors if isinstance(t, FakeTensor)]
        wanted = kwargs.get("device")
        goes_there = wanted is not None and torch.device(wanted).type == "cuda"
        if not on_device and not goes_there:
            if func in _PINNING or (func in _FILLING and args[0].numel() > 10_000):  # of a network's first weights
                # as nobody sees the values; zeros, since trunc_normal_ draws again until all lie within its bounds
                return args[0] if func in _PINNING else args[0].zero_()
            return func(*args, **{**kwargs, **_unpinned(kwargs)})
        if func.namespace == "c10d":
            self.collectives.append((func.overloadpacket.__name__, on_device))
        if (answer := self._answer(func, args, kwargs, goes_there)) is not None:
            return answer
        try:
            with self._tensors:
                out = func(*args, **kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException) as error:  # nonzero, unique, bincount …
            raise HostWaits(f"{func} makes the host wait for its values at {place()}") from error
        except (NotImplementedError, UnsupportedOperatorException):
            # no fake form, as of some fused optimizers; one that only changes its operands has no result to make
            if func._schema.returns or len(on_device) < len(tensors):
                raise
            out = None
        except RuntimeError as error:
            raise DeviceMismatch(f"{error} at {place()}") from error
        if self._open and not is_free(func):
            moved = count_bytes(func, args, kwargs, out)
            for count in self._open:
                count.launches += 1
                count.bytes += moved
        return out

    def _answer(self, func: Any, args: Any, kwargs: Any, goes_there: bool) -> Any:
        """Notes a wait. Returns what the operation gives if its result is the host's, else None."""
        if func is aten._to_copy.default:
            here = isinstance(args[0], FakeTensor)
            if not here and not kwargs.get("non_blocking"):
                self.wait(f"a blocking copy to the device of {_describe(args[0])}")
            if here and not goes_there and (wanted := kwargs.get("device")) is not None:
                if torch.device(wanted).type == "cpu":  # and not meta
                    self.wait(f"a copy to the host of {_describe(args[0])}")
                # ones, since counts are to divide by
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=wanted)
        elif func is aten.copy_.default:
            to, source = args[:2]
            blocks = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
            if not isinstance(source, FakeTensor) and blocks:
                self.wait(f"a blocking copy to the device of {_describe(source)}")
            if not isinstance(to, FakeTensor):
                self.wait(f"a copy to the host of {_describe(source)}")
                return to
        elif func in _INDEXING:
            self._check_indices(func, args)
        elif func is aten._local_scalar_dense.default:
            self.wait("reading a value (item(), float(), bool() or a branch on it)")
            # whole numbers are counts, to divide by; a float is whether gradient scaling found an infinity; a branch
            # asks whether all is finite
            dtype = args[0].dtype
            return 0.0 if dtype.is_floating_point else dtype == torch.bool or 1
        elif func is aten.equal.default:
            self.wait("equal()")
            return True
        return None

    def _check_indices(self, func: Any, args: Any) -> None:
        indices = [index for index in args[1] if index is not None]
        for index in indices:
            if isinstance(args[0], FakeTensor) and not isinstance(index, FakeTensor):
                self.wait(f"a CUDA tensor indexed by a CPU tensor, {_describe(index)}, which is copied")
            if not isinstance(args[0], FakeTensor) and isinstance(index, FakeTensor):
                raise DeviceMismatch(f"a CPU tensor indexed by a CUDA tensor at {place()}")
        masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
        one = func not in _INDEXING[:2] and len(indices) == 1 and args[2].numel() == 1
        fills = one and not isinstance(args[2], FakeTensor)  # becomes masked_fill, which wants the value on the CPU
        if masks and not fills:
            raise HostWaits(f"a mask as an index makes the host wait at {place()}")


def _unpinned(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Without a GPU there is no pinned memory."""
    return {"pin_memory": False} if kwargs.get("pin_memory") else {}


def _describe(tensor: Tensor) -> str:
    return f"{'×'.join(map(str, tensor.shape)) or 'a scalar'} {str(tensor.dtype).removeprefix('torch.')}"

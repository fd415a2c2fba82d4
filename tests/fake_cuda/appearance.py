"""Makes torch believe that there is one GPU, for as long as a `with` lasts: nothing of it is left behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.optim.optimizer as optimizer_module
import torch.utils._foreach_utils as foreach_module
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from fake_cuda.hooks import cuda_hooks

FREE_BYTES = 80 << 30
Wait = Callable[[str], None]


class FakeEvent:
    """Of CUDA. on_wait: told when the host would wait for it."""

    def __init__(self, on_wait: Wait) -> None:
        self._on_wait = on_wait

    def record(self, stream: Any = None) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 1.0

    def synchronize(self) -> None:
        self._on_wait("an event's synchronize()")


class FakeStream:
    """Of CUDA. One stream waits for another without the host; `synchronize` is the host's wait."""

    device_index = cuda_stream = 0

    def __init__(self, on_wait: Wait) -> None:
        self._on_wait = on_wait

    def wait_stream(self, other: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> FakeEvent:
        return FakeEvent(self._on_wait)

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        self._on_wait("a stream's synchronize()")


class FakeGenerator:
    """Of CUDA, whose numbers nobody sees."""

    def manual_seed(self, seed: int) -> "FakeGenerator":
        assert -(2**63) <= seed < 2**64
        return self

    def get_state(self) -> int:
        """Of the real one a tensor on the CPU, seed and offset, which the host has without waiting."""
        return 0

    def set_state(self, state: int) -> "FakeGenerator":
        return self


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """nn.Module._apply for fake tensors, whose parameters can neither be changed in place nor swapped."""
    moved: dict[int, nn.Parameter] = {}  # a parameter of two modules stays one
    for module in self.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in moved:
                    with torch.no_grad():
                        moved[id(parameter)] = nn.Parameter(fn(parameter.detach()), parameter.requires_grad)
                module._parameters[key] = moved[id(parameter)]
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = fn(buffer)
    return self


_deepcopy_tensor = Tensor.__deepcopy__


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Tensor:
    """Tensor.__deepcopy__, which asks a fake tensor for its address; an average of weights is a copy of the network."""
    if not isinstance(self, FakeTensor):
        return _deepcopy_tensor(self, memo)
    if id(self) not in memo:
        copied = self.detach().clone()
        memo[id(self)] = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
    return memo[id(self)]


def _cuda_functions(on_wait: Wait) -> dict[str, Any]:
    """What stands in for the functions and classes of torch.cuda."""
    current = FakeStream(on_wait)
    properties = SimpleNamespace(name="Fake", total_memory=FREE_BYTES, multi_processor_count=132, major=9, minor=0)
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "Fake",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: properties,
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda device=None: (FREE_BYTES, FREE_BYTES),
        "memory_allocated": lambda device=None: 1,
        "max_memory_allocated": lambda device=None: 1,
        "reset_peak_memory_stats": lambda device=None: None,
        "default_generators": (FakeGenerator(),),
        "Stream": lambda *_, **__: FakeStream(on_wait),
        "Event": lambda *_, **__: FakeEvent(on_wait),
        "current_stream": lambda device=None: current,
        "default_stream": lambda device=None: current,
        "stream": lambda stream: nullcontext(),
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: on_wait("torch.cuda.synchronize()"),
    }


@contextmanager
def cuda_appears(on_wait: Wait) -> Iterator[None]:
    """Inside, torch finds one GPU and runs backward on fake CUDA tensors. on_wait: told where the host would wait for
    the device by name; waits that are operations on tensors are seen by device.py."""
    with ExitStack() as stack:
        stack.enter_context(cuda_hooks())
        # else autograd wants a thread for the device, and makes its threads in a process's first backward
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(patch.multiple(torch.cuda, **_cuda_functions(on_wait)))
        stack.enter_context(patch.object(Tensor, "record_stream", lambda self, stream: None))
        stack.enter_context(patch.object(Tensor, "__deepcopy__", _deepcopy))
        stack.enter_context(patch.object(nn.Module, "_apply", _apply))
        for module in (foreach_module, optimizer_module):  # else optimizers and clipping go tensor by tensor
            types = [*module._foreach_supported_types, FakeTensor]
            stack.enter_context(patch.object(module, "_foreach_supported_types", types))
        yield

"""After the fake device torch is as it was: no GPU, its own functions, its own hooks."""

import pytest
import torch
import torch.optim.optimizer as optimizer_module
import torch.utils._foreach_utils as foreach_module
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from fake_cuda.cases import parse
from fake_cuda.hooks import why_not_here
from fake_cuda.steps import measure, on_fake_cuda

pytestmark = pytest.mark.skipif(why_not_here() is not None, reason=str(why_not_here()))


def _everything() -> dict[str, object]:
    found: dict[str, object] = {f"cuda.{name}": value for name, value in vars(torch.cuda).items()}
    found |= {f"Tensor.{name}": value for name, value in vars(torch.Tensor).items()}
    found |= {f"Module.{name}": value for name, value in vars(torch.nn.Module).items()}
    found |= {m.__name__: list(m._foreach_supported_types) for m in (foreach_module, optimizer_module)}
    found["lift"] = torch._C._only_lift_cpu_tensors()
    found["modes"] = len(_get_current_dispatch_mode_stack())
    return found


def _fail_inside() -> None:
    with on_fake_cuda(parse("smoke baseline")):
        assert torch.cuda.is_available()
        raise ZeroDivisionError


def test_torch_is_as_it_was() -> None:
    torch.ones(3, requires_grad=True).sum().backward()  # autograd has begun, as in a process of other tests
    measure(parse("smoke cutmix"))  # imports what is imported late
    before = _everything()
    measure(parse("smoke cutmix+adamp"))
    with pytest.raises(ZeroDivisionError):
        _fail_inside()
    after = _everything()
    assert {name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)
            and before.get(name) != after.get(name)} == set()  # fmt: skip
    assert not torch.cuda.is_available()
    x = torch.ones(3, requires_grad=True)
    x.square().sum().backward()
    assert x.grad is not None
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(3, device="cuda")

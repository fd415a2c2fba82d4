"""How many operations a step takes beside the network's: on a GPU each is a launch or a few, and a few hundred of them
are milliseconds of the host's time in every step. Counted on tensors of the device "meta", which compute nothing and
take the operations of a GPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from paribus import rexnet
from paribus.methods.ema import Ema
from paribus.methods.lengths import copy_weights, find_convolution_weights, measure_lengths
from paribus.techniques.adamp import SGDP, AdamP


class Count(TorchDispatchMode):
    """Operations that compute or copy; views and memory that is not filled cost no launch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_view = any(x.alias_info is not None and not x.alias_info.is_write for x in func._schema.returns)
        if not is_view and not any(word in str(func) for word in ("empty", "detach", "profiler")):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


networks = pytest.mark.parametrize("make", [lambda: timm.create_model("resnet50"), rexnet], ids=["resnet50", "rexnet"])


def operations(work: Callable[[], Any]) -> list[str]:
    """Of the second time; the first makes states and plans."""
    work()
    with Count() as count:
        work()
    return count.seen


def parameters_with_gradients(model: nn.Module) -> list[nn.Parameter]:
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    return list(model.parameters())


@networks
@pytest.mark.parametrize(
    ("make_optimizer", "limit"),
    [
        (AdamP, 55),
        (lambda p: AdamP(p, lr=torch.tensor(0.1), weight_decay=0.1, nesterov=True), 70),
        (lambda p: SGDP(p, lr=0.1, momentum=0.9, weight_decay=1e-4), 59),
    ],
    ids=["adamp", "adamp-everything", "sgdp"],
)
def test_a_batched_step_takes_one_operation_a_matrix_and_few_besides(
    make: Callable[[], nn.Module], make_optimizer: Any, limit: int
) -> None:
    params = parameters_with_gradients(make().to("meta"))
    seen = operations(make_optimizer(params).step)
    assert len(seen) <= sum(p.ndim > 1 for p in params) + limit, sorted(seen)


@networks
@pytest.mark.parametrize("buffers", ["averaged", "latest"])
def test_an_average_takes_two_operations(make: Callable[[], nn.Module], buffers: Any) -> None:
    model = make().to("meta")
    average = Ema(decay=0.9, buffers=buffers)(model)
    assert average is not None
    assert len(operations(lambda: average.update(model, 3))) == 2


@networks
def test_lengths_take_few_operations(make: Callable[[], nn.Module]) -> None:
    weights = find_convolution_weights(make().to("meta"))
    assert len(operations(lambda: measure_lengths(copy_weights(weights), weights))) <= 10


def test_negative_control_an_operation_a_tensor_is_counted() -> None:
    params = parameters_with_gradients(timm.create_model("resnet50").to("meta"))
    step = torch.optim.SGD(params, lr=0.1, foreach=False).step
    assert len(operations(step)) >= len(params) == 161

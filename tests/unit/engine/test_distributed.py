"""A model among several processes: which BatchNorm can be shared, and gradients in the layout of their buckets."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from helpers.trainings import recipe_of
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.engine.distributed import convert_sync_batchnorm, wrap_ddp
from paribus.engine.world import World
from paribus.recipe.build import build_method, make_device_context

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


class WithActivation(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Renamed(nn.BatchNorm2d):
    pass


def test_a_batchnorm_that_does_more_is_not_replaced_by_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As timm's BatchNormAct2d is."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for layer in (WithActivation(4), WithActivation(4, affine=False)):
        with pytest.raises(ConfigError, match=rf"runtime\.sync_bn: .*{type(layer).__name__}"):
            convert_sync_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 1), layer), CUDA)
    plain = [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), Renamed(4), nn.SyncBatchNorm(4)]
    shared = convert_sync_batchnorm(nn.Sequential(*plain, nn.GroupNorm(2, 4)), CUDA)
    assert [type(layer) for layer in shared] == [nn.SyncBatchNorm] * 5 + [nn.GroupNorm]


@pytest.fixture
def group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


class AsCudnn(torch.autograd.Function):
    """A gradient in the strides that cuDNN gives that of a convolution's weight in channels_last."""

    @staticmethod
    def forward(ctx, weight):  # type: ignore[no-untyped-def]
        ctx.shape = weight.shape
        return weight.sum()

    @staticmethod
    def backward(ctx, _):  # type: ignore[no-untyped-def]
        _, c, h, w = ctx.shape
        return torch.empty_strided(ctx.shape, (h * w * c, 1, w * c, c)).fill_(1.0)


class Convolutions(nn.Module):
    """Of kernel 1, depthwise, and plain: in the first two an axis of one makes strides ambiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 3)])

    def forward(self) -> Tensor:
        return sum(AsCudnn.apply(m.weight) + m.bias.sum() for m in self.layers)  # type: ignore[return-value]


def warned(model: nn.Module) -> list[str]:
    wrapped = wrap_ddp(model, CPU)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        wrapped().backward()
    return [str(w.message) for w in told if "Grad strides" in str(w.message)]


def test_gradients_have_the_strides_of_their_buckets(group_of_one: None) -> None:
    """torch warns if not (pytorch#157862). `Module.to(memory_format=...)`, which every network of a recipe goes
    through, also lays out weights whose strides are ambiguous."""
    recipe = recipe_of("experiment=smoke", "runtime.channels_last=true")
    data: Any = SimpleNamespace(
        spec=Spec(10, 3, 12, 12), class_ids=(), mean=(0.0,) * 3, std=(1.0,) * 3, facts={}, largest={}
    )
    net: Any = replace(recipe, model=lambda spec: Convolutions())
    method: Any = build_method(net, data, make_device_context(recipe, CPU, World()))
    assert method.model.layers[0].weight.stride() == (4, 1, 4, 4)
    assert not warned(method.model)
    assert warned(Convolutions()), "the negative control: torch says it once in a process"

"""Several processes as one: the process group, sums over ranks, DistributedDataParallel. No-ops with one."""

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paribus.core.errors import ConfigError, explain_exception
from paribus.engine.timeouts import nccl_environment
from paribus.engine.world import World, from_environment

__all__ = [
    "World",
    "all_gather",
    "all_sum",
    "broadcast_from_main",
    "destroy_process_group",
    "from_environment",
    "gather_rows",
    "gather_with_gradient",
    "init_process_group",
    "sum_with_gradient",
    "sync_buffers",
    "wrap_ddp",
]

T = TypeVar("T")


def init_process_group(world: World, device: torch.device, timeout: int) -> None:
    """Join the process group. timeout: seconds that a rank waits for the others, here and in every collective. Raises
    ConfigError if the other processes are not found."""
    if world.size == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        os.environ.update(nccl_environment(os.environ))
    # torchrun sets the variables that torch reads; srun does not
    rendezvous: dict[str, Any] = {"init_method": f"tcp://{world.master}", "rank": world.rank, "world_size": world.size}
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            timeout=timedelta(seconds=timeout),
            **(rendezvous if world.launcher == "srun" else {}),
        )
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise ConfigError(
            f"the {world.size} processes could not connect at {world.master}: {explain_exception(error)}; set "
            "MASTER_ADDR and MASTER_PORT to choose another address"
        ) from error


def destroy_process_group() -> None:
    """Destroy the group. A wrapped model that is no longer used is kept by reference cycles; freed after its group, it
    could abort the process at exit."""
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


def all_sum(value: Tensor) -> Tensor:
    """The sum over ranks, exact for integers."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def broadcast_from_main(world: World, make: Callable[[], T]) -> T:
    """Rank 0 calls `make`; every rank gets its value, or raises the same ConfigError: none is left waiting."""
    if not dist.is_initialized():
        return make()
    payload: list[Any] = [None, None]
    if world.is_main:
        try:
            payload[0] = make()
        except ConfigError as error:
            payload[1] = str(error)
    dist.broadcast_object_list(payload)
    if payload[1] is not None:
        raise ConfigError(payload[1])
    return payload[0]


def all_gather(value: Tensor) -> Tensor:
    """(k, …) on each rank to (world, k, …) on all."""
    if not dist.is_initialized():
        return value[None]
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value)
    return torch.stack(parts)


def gather_rows(value: Tensor) -> Tensor:
    """(n, …) on each rank, n of any size, to (N, …) on all, in the order of ranks. The host waits for the sizes."""
    if not dist.is_initialized():
        return value
    sizes = all_gather(torch.full((1,), len(value), dtype=torch.int64, device=value.device))[:, 0].tolist()
    padded = value.new_zeros(max(sizes), *value.shape[1:])
    padded[: len(value)] = value
    return torch.cat([part[:n] for part, n in zip(all_gather(padded), sizes, strict=True)])


class _SumOverRanks(torch.autograd.Function):
    """Written here since torch's own (torch.distributed.nn.functional) is deprecated from 2.15 on, and what is to come
    in its place is not in 2.11."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return all_sum(value.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_sum(gradients[0].contiguous())


def sum_with_gradient(value: Tensor) -> Tensor:
    """The sum of a tensor over ranks, through which gradients flow to every rank's share, summed over ranks too."""
    return _SumOverRanks.apply(value) if dist.is_initialized() else value  # pyright: ignore[reportReturnType]


def gather_with_gradient(value: Tensor) -> Tensor:
    """(n, …) on each rank, n the same on all, to (n · world, …) on all, in the order of ranks, which is that of the
    global batch. Gradients flow back to the rank that each row comes from, summed over ranks."""
    if not dist.is_initialized():
        return value
    n, rank = len(value), dist.get_rank()
    # the sum over ranks of rows that are zero elsewhere: exact, and its gradient is the sum's
    before, after = (value.new_zeros(k * n, *value.shape[1:]) for k in (rank, dist.get_world_size() - rank - 1))
    return sum_with_gradient(torch.cat((before, value, after)))


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """The module whose backward averages gradients over ranks."""
    if not dist.is_initialized():
        return model
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def convert_sync_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with BatchNorm layers that see the images of all processes. Raises ConfigError on a CPU, and for a
    BatchNorm that does more, such as timm's with an activation: torch would put a plain one in its place."""
    if not dist.is_initialized():
        return model
    if device.type != "cuda":
        raise ConfigError(
            "runtime.sync_bn: found true; torch has it for CUDA alone; use one process or a net without BatchNorm"
        )
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and type(layer).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
            raise ConfigError(
                f"runtime.sync_bn: found true; the net has {type(layer).__name__}, whose own forward would be lost; "
                "use runtime.sync_bn=false, or a net whose BatchNorm is torch's"
            )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def sync_buffers(model: nn.Module) -> None:
    """Rank 0's buffers (BatchNorm statistics) on every rank, so that all evaluate the same network."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

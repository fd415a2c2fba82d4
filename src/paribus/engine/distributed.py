"""Several processes as one: torchrun's environment, sums over ranks, DistributedDataParallel. With one process,
nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from paribus.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes and prints."""
        return self.rank == 0


def from_environment() -> World:
    """What torchrun says in RANK, WORLD_SIZE and LOCAL_RANK; a single process if it says nothing."""
    rank, size, local_rank = (
        int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    return World(rank, size, local_rank)


def join(world: World, device: torch.device) -> None:
    if world.size > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def all_sum(value: Tensor) -> Tensor:
    """The sum over ranks, exact for integers."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def from_main(world: World, make: Callable[[], T]) -> T:
    """Rank 0 calls `make`; every rank gets its value, or raises the same ConfigError: none is left waiting."""
    if not dist.is_initialized():
        return make()
    box: list[Any] = [None, None]
    if world.is_main:
        try:
            box[0] = make()
        except ConfigError as error:
            box[1] = str(error)
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise ConfigError(box[1])
    return box[0]


def gathered(value: Tensor) -> Tensor:
    """(k,) on each rank to (world, k) on all."""
    if not dist.is_initialized():
        return value[None]
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value)
    return torch.stack(parts)


def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
    """The module whose backward averages gradients over ranks."""
    if not dist.is_initialized():
        return model
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def sync_buffers(model: nn.Module) -> None:
    """Rank 0's buffers (BatchNorm statistics) on every rank, so that all evaluate the same network."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

"""Several processes as one: torchrun's environment, sums over ranks, DistributedDataParallel. With one process,
nothing."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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


def from_main(value: Any) -> Any:
    """Rank 0's value on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


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

"""What the host has decided for a batch, brought to the device without waiting; and work on some images of a batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_ALIGNED = 16  # bytes: a tensor's place in the buffer, so that any type may be read there, by Triton too


def to_device(device: torch.device, *tensors: Tensor) -> list[Tensor]:
    """Tensors of the host on the device, in one copy from pinned memory, for which the host does not wait. Those that
    are on it already, or all if it is the CPU, are returned as they are."""
    moving = [x for x in tensors if x.device.type != device.type]
    if not moving:
        return list(tensors)
    there = iter(_unpack(_pack(moving, pinned=device.type == "cuda").to(device, non_blocking=True), moving))
    return [x if x.device.type == device.type else next(there) for x in tensors]


def _pack(tensors: Sequence[Tensor], pinned: bool) -> Tensor:
    """The bytes of all tensors, one after another."""
    buffer = torch.empty(sum(map(_room, tensors)), dtype=torch.uint8, pin_memory=pinned)
    for x, place in zip(tensors, _unpack(buffer, tensors), strict=True):
        place.copy_(x)
    return buffer


def _unpack(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of what `_pack` made of these tensors."""
    parts = buffer.split([_room(x) for x in like])
    return [part[: x.nbytes].view(x.dtype).view(x.shape) for part, x in zip(parts, like, strict=True)]


def _room(x: Tensor) -> int:
    return -(-x.nbytes // _ALIGNED) * _ALIGNED


def change_where(
    images: Tensor, chosen: Tensor, parameters: tuple[Tensor, ...], change: Callable[..., Tensor]
) -> Tensor:
    """`change(some images, their parameters...)` of the chosen images, the others as they are.

    images: (b, ...). chosen: (b,) bool. parameters: (b, ...) each, where `chosen` is. If that is the host, only chosen
    images are computed; if the device alone knows, all are, since to ask it the host would have to wait.
    """
    if not chosen.is_cpu:
        return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), change(images, *parameters), images)
    at = chosen.nonzero()[:, 0]
    if not len(at):
        return images
    if len(at) == len(chosen):
        return change(images, *to_device(images.device, *parameters))
    there, *few = to_device(images.device, at, *(x[at] for x in parameters))
    return images.index_copy(0, there, change(images.index_select(0, there), *few))

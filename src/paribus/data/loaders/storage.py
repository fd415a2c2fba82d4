"""Where the pixels of packed sets are stored (`data.keep`), decided once for all sets of a dataset."""

import functools
from collections.abc import Callable, Mapping
from typing import Literal

import torch

StorageMode = Literal["auto", "device", "host", "mapped"]
StorageChoice = Callable[[], StorageMode]  # asked when a set is first read


def choose_storage(sizes: Mapping[str, int], free: int) -> dict[str, StorageMode]:
    """keep=auto on CUDA: sets go on the device, in this order, while they fit in half of its free memory together; the
    others stay as they are, in host memory or a mapped file. sizes, free: bytes.

    The other half is for what comes later: activations, gradients and the optimizer's state.
    """
    left, chosen = free / 2, dict[str, StorageMode]()
    for name, size in sizes.items():
        chosen[name] = "device" if size < left else "mapped"
        left -= size if chosen[name] == "device" else 0
    return chosen


def plan_storage(
    keep: StorageMode, device: torch.device, sizes: Mapping[str, int]
) -> Mapping[str, StorageMode | StorageChoice]:
    """Where the pixels of each set go. sizes: their bytes, the set that is read most first.

    With auto on CUDA the free memory is looked at when the first set is read: by then the network is on the device, and
    none of these sets is.
    """
    if keep != "auto" or device.type == "cpu":
        return dict.fromkeys(sizes, keep)
    decide = functools.cache(lambda: choose_storage(sizes, torch.cuda.mem_get_info(device)[0]))

    def choose(name: str) -> StorageMode:
        return decide()[name]

    return {name: functools.partial(choose, name) for name in sizes}

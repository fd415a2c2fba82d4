"""Which kernel, if any, gives each image of a batch its own colour and affine operations in one pass."""

import functools
import importlib.util
import warnings
from typing import Protocol

import torch
from torch import Tensor

from paribus.data.ops import native


class Kernel(Protocol):
    """native.apply_operations explains the arguments."""

    def __call__(
        self, images: Tensor, operations: Tensor, arguments: Tensor, fill: tuple[int, ...] = (), bicubic: bool = False
    ) -> Tensor: ...


def choose_kernel(images: Tensor) -> Kernel | None:
    """color.c on a CPU, Triton's on a CUDA device; None: by tensor operations, with the same results."""
    if native.has_color_kernel(images):
        return native.apply_operations
    # a subclass stands for a tensor without memory, of which a kernel has no use
    if images.is_cuda and type(images) is Tensor and images.shape[3] in (1, 3):
        return _load_triton_kernel(images.device)
    return None


@functools.cache
def _load_triton_kernel(device: torch.device) -> Kernel | None:
    """Triton's kernels if they run on this device, or None after one warning: Triton needs a C compiler as well."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        from paribus.data.ops.color_triton import apply_operations

        tiny = torch.zeros(1, 2, 2, 3, dtype=torch.uint8, device=device)
        apply_operations(tiny, torch.tensor([[native.OPERATION_CODES["equalize"]]]), torch.zeros(1, 1, 6))
    except Exception as error:  # whatever Triton's compiler or driver raises
        reason = " ".join(str(error).split())[:200]
        warnings.warn(
            f"augmentation on {device} is fastest with Triton, which fails here: {type(error).__name__}: {reason}; "
            "tensor operations are used instead, with the same results",
            stacklevel=2,
        )
        return None
    return apply_operations

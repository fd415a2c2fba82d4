"""The cost of a network in multiply-accumulates, and how to match it between two networks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from paribus.core.errors import ConfigError
from paribus.core.meta import to_meta
from paribus.core.protocols import Spec


class _OperationLimit(TorchDispatchMode):
    """Raises OverflowError after so many operations."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._left = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise OverflowError
        return func(*args, **(kwargs or {}))


def count_macs(model: nn.Module, spec: Spec, limit: float = float("inf")) -> int:
    """Multiply-accumulates of one image through convolutions, matrix products and attention, in evaluation mode.

    Counted by torch's FlopCounterMode on shapes alone (meta device), at 2 FLOPs each; normalisation, activations and
    biases are not counted, as in the papers' tables. Raises OverflowError after `limit` operations.
    """
    meta_model = to_meta(model).eval()
    precision = next((p.dtype for p in meta_model.parameters() if p.is_floating_point()), torch.float32)
    counter = FlopCounterMode(display=False)
    with counter, _OperationLimit(limit):
        meta_model(torch.empty(1, spec.channels, spec.height, spec.width, dtype=precision, device="meta"))
    return counter.get_total_flops() // 2


def match_cost(
    cost: Callable[[float], int], target: int, low: float, high: float, tolerance: float = 0.01, unit: str = "MACs"
) -> float:
    """The width in [low, high] whose cost is nearest to the target, by bisection; cost must not fall with width.

    Widths are rounded to channels inside `cost`, so it is a staircase: the best of the widths tried is returned.
    Raises ConfigError if none comes within `tolerance` of the target.
    """
    best, error = low, float("inf")
    for _ in range(40):
        middle = (low + high) / 2
        found = cost(middle)
        if abs(found / target - 1) < error:
            best, error = middle, abs(found / target - 1)
        low, high = (middle, high) if found < target else (low, middle)
    if error > tolerance:
        raise ConfigError(
            f"model: no width comes within {tolerance:.0%} of {target:,} {unit}; the nearest misses by {error:.1%}; "
            "a wider net, or a smaller divisor, has finer steps"
        )
    return best

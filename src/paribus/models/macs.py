"""What a network costs, in multiply-accumulates, and how to give two networks the same cost."""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec


def count_macs(model: nn.Module, spec: Spec) -> int:
    """Multiply-accumulates of one image through convolutions, matrix products and attention, in evaluation mode.

    Counted by torch's FlopCounterMode on shapes alone (meta device), at 2 FLOPs each; normalisation, activations and
    biases are not counted, as in the papers' tables.
    """
    shadow = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        shadow(torch.empty(1, spec.channels, spec.height, spec.width, device="meta"))
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

"""How far two forms of a step of AdamP or SGDP are apart, step by step from the same weights and states."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.streams import stream
from paribus.techniques.adamp import SGDP, AdamP

# rows shorter and longer than a vector, one row, one column, a row longer than the C kernel keeps, several batches
SHAPES = [
    (6, 4, 3, 3),
    (40, 9),
    (33, 40),
    (9,),
    (),
    (0, 3),
    (4, 0),
    (1, 50),
    (50, 1),
    (3, 20000),
    (70000,),
    (7, 1, 5, 5),
]
Make = Callable[..., torch.optim.Optimizer]


def adamp(params: Any, **options: Any) -> AdamP:
    return AdamP(params, **{"lr": 0.01, "weight_decay": 0.1, **options})


def sgdp(params: Any, **options: Any) -> SGDP:
    return SGDP(params, **{"lr": 0.02, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01, **options})


def numbers(shape: tuple[int, ...], *key: object) -> Tensor:
    return torch.randn(shape, generator=stream(0, "ways", *map(str, key), *shape), dtype=torch.float64)


def gradient(w: Tensor, regime: str, step: int, axis: int = 0) -> Tensor:
    """One that is at right angles to every row of w, to w as a whole but to no row, or to neither."""
    g, w = numbers(tuple(w.shape), "g", step), w.double()
    if w.ndim < 2 or w.numel() == 0:
        return g
    rows = [i for i in range(w.ndim) if i != axis]
    if regime == "channel":
        return g - w * (g * w).sum(rows, keepdim=True) / (w * w).sum(rows, keepdim=True)
    if regime == "layer":  # half of the rows lean one way and half the other
        lean = torch.linspace(-1, 1, w.shape[axis], dtype=w.dtype).reshape(
            [-1 if i == axis else 1 for i in range(w.ndim)]
        )
        g = g + w * lean
        return g - w * (g * w).sum() / (w * w).sum()
    return g + w


def apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)) if b.numel() else 0.0


def parameters(dtype: torch.dtype, shapes: list[tuple[int, ...]], layout: str = "contiguous") -> list[nn.Parameter]:
    def laid(x: Tensor) -> Tensor:
        if layout == "channels_last" and x.ndim == 4:
            return x.to(memory_format=torch.channels_last)
        if layout == "transposed" and x.ndim == 2:
            return x.t().contiguous().t()
        return x

    return [nn.Parameter(laid(numbers(s, "w", i).to(dtype))) for i, s in enumerate(shapes)]


@torch.no_grad()
def largest(
    make: Make,
    way: dict[str, Any],
    dtype: torch.dtype = torch.float64,
    regime: str = "channel",
    shapes: list[tuple[int, ...]] = SHAPES,
    layout: str = "contiguous",
    steps: int = 3,
    **options: Any,
) -> float:
    """The largest relative difference of a weight, a state, or in float64 (a thousandth of) a change, in any step."""
    theirs, mine = (parameters(dtype, shapes, layout) for _ in range(2))
    reference, other = make(theirs, foreach=False, **options), make(mine, **way, **options)
    worst = 0.0
    for step in range(steps):
        before = [p.clone() for p in theirs]
        for p, q in zip(theirs, mine, strict=True):
            p.grad = gradient(p, regime, step, options.get("channel_axis", 0)).to(dtype)
            q.grad = p.grad.clone()
        reference.step()
        other.step()
        for old, p, q in zip(before, theirs, mine, strict=True):
            assert q.stride() == p.stride()
            assert reference.state[p].keys() == other.state[q].keys()
            pairs = [(q, p), *((other.state[q][key], value) for key, value in reference.state[p].items())]
            worst = max(worst, *(apart(a, b) for a, b in pairs))
            if dtype == torch.float64:
                # nothing but rounding is left of some changes, where all of an update lies along the weight
                worst = max(worst, 1e-3 * float((q - p).norm() / max((p - old).norm(), 1e-4 * p.norm(), 1e-30)))
            for a, b in pairs:
                a.copy_(b)
    return worst

"""How widely a layer of a vision transformer looks: the entropy of its attention, and the distance that it spans.

Distance is as Dosovitskiy et al. 2021 (arXiv 2010.11929, appendix) and Raghu et al. 2021 (arXiv 2108.08810) have it:
from the query's place to each key's, weighted with the attention. Class tokens have no place: they are left out as
queries and as keys, and what remains of a query's attention is scaled to sum 1 again, for the entropy too.
"""

import torch
from torch import Tensor

from paribus.core.capabilities import AttentionMap


def among_cells(found: AttentionMap) -> Tensor:
    """(n, heads, h·w, h·w) float64: the attention from cells to cells, each row of sum 1."""
    cells = found.grid[0] * found.grid[1]
    weights = found.weights[..., -cells:, -cells:].double()
    # a row that looks at class tokens alone stays zero
    return weights / weights.sum(3, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def entropy(weights: Tensor) -> Tensor:
    """(n, heads, q, k) to (n,): −Σ p ln p over keys, in nats, averaged over queries and heads; 0 to ln k."""
    return torch.special.entr(weights).sum(3).mean((1, 2))


def mean_distance(weights: Tensor, grid: tuple[int, int], pitch: tuple[int, int]) -> Tensor:
    """(n, heads, h·w, h·w) to (n,): pixels from query to key, weighted with the attention, averaged over queries and
    heads."""
    down, across = (
        torch.arange(side, device=weights.device, dtype=weights.dtype) * step
        for side, step in zip(grid, pitch, strict=True)
    )
    places = torch.stack([axis.flatten() for axis in torch.meshgrid(down, across, indexing="ij")], 1)
    between = (places[:, None] - places[None]).square().sum(2).sqrt()
    return (weights * between).sum(3).mean((1, 2))

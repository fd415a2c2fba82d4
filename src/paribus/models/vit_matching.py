"""Finds the width at which a ViT costs as many multiply-accumulates as another one, or has as many parameters.

The rule: for each number of heads h and each even head dim e of the first stage, one MLP size gives the wanted cost; of
these stages, the one is taken whose head dim and MLP ratio together differ least from the plain network's (the sum of
their |log ratio|). Heads and head dim alone cannot do it: at a width of 48 one channel more is 4 % of the cost.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import torch
from torch import nn

from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.models.macs import count_macs

TOLERANCE = 0.01
Matched = Literal["macs", "parameters"]
_WORDS: dict[Matched, str] = {"macs": "MACs", "parameters": "parameters"}


@dataclass(frozen=True)
class BlockSize:
    """The size of a block: attention heads, channels per head, hidden units of the MLP."""

    heads: int
    head_dim: int
    hidden: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def mlp_ratio(self) -> float:
        return self.hidden / self.width

    def scale(self, factor: int) -> "BlockSize":
        """More heads of the same dimension, all else wider in proportion."""
        return BlockSize(self.heads * factor, self.head_dim, self.hidden * factor)

    def __str__(self) -> str:
        return f"{self.heads} × {self.head_dim} = {self.width} channels, MLP ratio {self.mlp_ratio:.3g}"


def build_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A network on the meta device: nothing is allocated and no random number drawn."""
    with torch.device("meta"):
        return make()


def match_size(
    make: Callable[[BlockSize], nn.Module], plain: nn.Module, size: BlockSize, spec: Spec, matched: Matched = "macs"
) -> tuple[BlockSize, str]:
    """The first stage's size for which `make` gives a network that costs as much as the plain one, whose own is `size`;
    and a line on what both cost. matched: what counts as cost.

    Raises ConfigError if none comes within 1 %.
    """

    def cost(model: nn.Module) -> int:
        return count_macs(model, spec) if matched == "macs" else sum(p.numel() for p in model.parameters())

    target = cost(plain)
    terms = _fit_cost_terms(lambda first: cost(build_on_meta(lambda: make(first))), size, matched == "parameters")
    constant, linear, square, mlp, units = (*terms, 0.0)[:5]

    def candidates() -> Iterator[tuple[float, BlockSize]]:
        for heads in range(1, 4 * size.heads + 1):
            for head_dim in range(2, 4 * size.head_dim + 1, 2):
                width = heads * head_dim
                left = target - constant - linear * width - square * width**2
                if (hidden := round(left / (mlp * width + units))) >= 1:
                    first = BlockSize(heads, head_dim, hidden)
                    yield abs(log(head_dim / size.head_dim)) + abs(log(first.mlp_ratio / size.mlp_ratio)), first

    best = min(candidates(), key=lambda pair: (pair[0], pair[1].heads), default=(0.0, BlockSize(1, 2, 1)))[1]
    model = build_on_meta(lambda: make(best))
    apart = cost(model) / target - 1
    if abs(apart) > TOLERANCE:
        raise ConfigError(
            f"model: no first stage comes within {TOLERANCE:.0%} of the plain ViT's {target:,} {_WORDS[matched]}; the "
            f"nearest ({best}) misses by {apart:+.1%}; give the plain one more channels (model.heads, model.head_dim)"
        )
    return best, (
        f"at matched {_WORDS[matched]} ({apart:+.2%}): {_format_cost(model, spec, best)}; plain ViT: "
        f"{_format_cost(plain, spec, size)}"
    )


def format_plain_note(plain: nn.Module, size: BlockSize, spec: Spec) -> str:
    """The same line for the plain network alone."""
    return f"plain ViT: {_format_cost(plain, spec, size)}"


def _format_cost(model: nn.Module, spec: Spec, first: BlockSize) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    return f"{count_macs(model, spec):,} MACs, {parameters:,} parameters, first stage {first}"


def _fit_cost_terms(cost: Callable[[BlockSize], int], size: BlockSize, biases: bool = False) -> tuple[float, ...]:
    """(a, b, c, d) of cost = a + b·width + c·width² + d·width·hidden, from four counted networks. biases: they count,
    and (e) of e·hidden is there too, from a fifth.

    Nothing else can occur in layers whose widths are multiples of the first one's: stems and classifiers are linear in
    it, as is attention between tokens; dense layers are products of two widths.
    """
    counted = ((1, 1), (2, 1), (3, 1), (1, 2), *(((2, 2),) if biases else ()))
    shapes = [BlockSize(1, size.width * w, size.hidden * h) for w, h in counted]
    rows = np.array(
        [(1, s.width, s.width**2, s.width * s.hidden, s.hidden)[: len(counted)] for s in shapes], dtype=np.float64
    )
    scale = rows[0]  # so that the system is well conditioned at any width
    return tuple(float(x) for x in np.linalg.solve(rows / scale, [cost(s) for s in shapes]) / scale)

"""Poolings between the stages of a ViT that have nothing to learn: what a learnt one has to beat.

They reduce the grid and widen the stages as PiT's does, by the same 3×3 windows or by leaving cells out. Each channel,
of maps and of class tokens, is there twice afterwards, where PiT learns two filters of it.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.build import schema

Kind = Literal["mean", "max", "every_second"]


def pool_plainly(maps: Tensor, tokens: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """maps (n, c, h, w) to (n, 2c, ⌈h/2⌉, ⌈w/2⌉), tokens (n, k, c) to (n, k, 2c). Channels 2i and 2i + 1 of the result
    are channel i. A mean is over the cells that are there, not over the border."""
    if kind == "mean":
        maps = F.avg_pool2d(maps, 3, stride=2, padding=1, count_include_pad=False)
    elif kind == "max":
        maps = F.max_pool2d(maps, 3, stride=2, padding=1)
    else:
        maps = maps[:, :, ::2, ::2]
    return maps.repeat_interleave(2, 1), tokens.repeat_interleave(2, 2)


class PlainPoolingLayer(nn.Module):
    """`pool_plainly` as a layer without weights."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind: Kind = kind

    def forward(self, maps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return pool_plainly(maps, tokens, self.kind)

    def extra_repr(self) -> str:
        return self.kind


@schema
class PlainPooling:
    """Fills the pooling slot of a ViT. kind: the mean or the largest of each 3×3 window, or every second cell."""

    kind: Kind = "mean"

    @property
    def growth(self) -> int:
        return 2

    def layer(self, width: int) -> nn.Module:
        return PlainPoolingLayer(self.kind)

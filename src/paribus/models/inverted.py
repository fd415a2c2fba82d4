"""Inverted bottlenecks: the blocks of mobile nets, described as plain numbers first, then built.

Sandler et al. 2018, arXiv 1801.04381 (MobileNetV2); squeeze-excitation from Hu et al. 2018, arXiv 1709.01507. Which
channels the blocks get is decided elsewhere, in models/mobile.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from paribus.models.convnet import Norm
from paribus.models.drop_path import DropPath

Activation = Literal["relu6", "silu"]
Shortcut = Literal["partial", "equal"]

SQUEEZE = 12  # squeeze-excitation keeps one in twelve of the expanded channels: half of the block's inputs


@dataclass(frozen=True)
class Block:
    """inputs → inputs · expansion → depthwise 3×3 → outputs; excite: with squeeze-excitation before the last."""

    inputs: int
    outputs: int
    expansion: int
    stride: int
    excite: bool

    @property
    def expanded(self) -> int:
        return self.inputs * self.expansion

    @property
    def squeezed(self) -> int:
        return max(1, self.expanded // SQUEEZE) if self.excite else 0


@dataclass(frozen=True)
class Style:
    """What all blocks of a net have in common.

    activation: of stem, expansions and head; after the depthwise convolution it is always ReLU6. norm "group": one
    group, since a number of groups that depends on the channels would be a second difference between two plans; not
    inside squeeze-excitation.
    shortcut "partial": inputs are added to as many of the outputs, wherever stride is 1 and there are enough of those;
    "equal": only where there are exactly as many.
    """

    activation: Activation = "relu6"
    norm: Norm = "batch"
    shortcut: Shortcut = "partial"


def unit(
    inputs: int,
    outputs: int,
    norm: Norm,
    activation: Activation | None = None,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, normalisation and perhaps an activation. A convolution without normalisation has a bias."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias or norm == "none")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if norm != "none":
        layers["norm"] = nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(1, outputs)
    if activation is not None:
        layers["act"] = nn.SiLU() if activation == "silu" else nn.ReLU6()
    return nn.Sequential(layers)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from all channels' means.

    BatchNorm between the two layers where the net has it. No other norm is put there: over one image's few squeezed
    numbers it would leave little of them, and nothing of a single one.
    """

    def __init__(self, channels: int, squeezed: int, norm: Norm) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.norm = nn.BatchNorm2d(squeezed) if norm == "batch" else nn.Identity()
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.excite(F.relu(self.norm(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return x * gate.sigmoid()


class InvertedBottleneck(nn.Module):
    """A `Block` as a module; the projection is linear."""

    def __init__(self, block: Block, style: Style, drop_path: float = 0.0) -> None:
        super().__init__()
        expanded = block.expanded
        body: OrderedDict[str, nn.Module] = OrderedDict()
        if block.expansion != 1:
            body["expand"] = unit(block.inputs, expanded, style.norm, style.activation)
        body["depthwise"] = unit(expanded, expanded, style.norm, kernel=3, stride=block.stride, groups=expanded)
        if block.excite:
            body["excite"] = SqueezeExcite(expanded, block.squeezed, style.norm)
        body["act"] = nn.ReLU6()
        body["project"] = unit(expanded, block.outputs, style.norm)
        self.body = nn.Sequential(body)
        fits = block.inputs == block.outputs or (style.shortcut == "partial" and block.inputs < block.outputs)
        self.has_shortcut = block.stride == 1 and fits
        self.new_channels = block.outputs - block.inputs
        self.drop_path = DropPath(drop_path if self.has_shortcut else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        out = self.drop_path(self.body(x))
        return out + F.pad(x, (0, 0, 0, 0, 0, self.new_channels)) if self.has_shortcut else out


class InvertedNet(nn.Module):
    """Stem, blocks, a 1×1 convolution to head[0] channels, average pool, perhaps a layer to head[1], classifier.

    drop_path: rate of the last block; it grows linearly from 0 at the first. Initialised as torch's layers are.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        blocks: Sequence[Block],
        style: Style,
        *,
        in_chans: int,
        classes: int,
        stem_stride: int,
        head: Sequence[int],
        dropout: float,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        rates = [drop_path * i / max(1, len(blocks) - 1) for i in range(len(blocks))]
        norm, activation = style.norm, style.activation
        self.stem = unit(in_chans, blocks[0].inputs, norm, activation, kernel=3, stride=stem_stride)
        self.blocks = nn.Sequential(*(InvertedBottleneck(b, style, r) for b, r in zip(blocks, rates, strict=True)))
        self.head = unit(blocks[-1].outputs, head[0], norm, activation)
        self.neck = nn.Identity() if len(head) == 1 else unit(head[0], head[1], norm, activation, bias=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        x = self.head(self.blocks(self.stem(x))).mean((2, 3), keepdim=True)
        return self.classifier(self.dropout(self.neck(x).flatten(1)))

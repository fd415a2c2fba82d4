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

from paribus.models.classifier import classifier_like
from paribus.models.convnet import Norm
from paribus.models.drop_path import DropPath, drop_path_rates
from paribus.models.recompute import run_checkpointed

Activation = Literal["relu6", "silu", "authors"]
Shortcut = Literal["partial", "equal"]

SQUEEZE = 12  # squeeze-excitation keeps one in twelve of the expanded channels: half of the block's inputs


def make_divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` that MobileNets round to: the nearest, but never more than 10 % below, nor under `by`."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class BlockSpec:
    """inputs → inputs · expansion → depthwise 3×3 → outputs; excite: with squeeze-excitation before the last, whose
    inner channels are a multiple of `divisor`."""

    inputs: int
    outputs: int
    expansion: int
    stride: int
    excite: bool
    divisor: int = 1

    @property
    def expanded(self) -> int:
        return self.inputs * self.expansion

    @property
    def squeezed(self) -> int:
        return make_divisible(self.expanded // SQUEEZE, self.divisor) if self.excite else 0


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of a net have in common.

    activation: ReLU6 or SiLU everywhere, or the mix of ReXNet's authors: SiLU after stem, expansions and head, ReLU6
    after the depthwise convolution. norm "group": one group, since a number of groups that depends on the channels
    would be a second difference between two plans; not inside squeeze-excitation.
    shortcut "partial": inputs are added to as many of the outputs, wherever stride is 1 and there are enough of those;
    "equal": only where there are exactly as many.
    """

    activation: Activation = "relu6"
    norm: Norm = "batch"
    shortcut: Shortcut = "partial"

    def outer_act(self) -> nn.Module:
        """After stem, expansions and head."""
        return nn.ReLU6() if self.activation == "relu6" else nn.SiLU()

    def depthwise_act(self) -> nn.Module:
        """After the depthwise convolution and squeeze-excitation."""
        return nn.SiLU() if self.activation == "silu" else nn.ReLU6()


def conv_norm_act(
    inputs: int,
    outputs: int,
    norm: Norm,
    act: nn.Module | None = None,
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
    if act is not None:
        layers["act"] = act
    return nn.Sequential(layers)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) computed from all channels' means.

    BatchNorm between the two layers if the net uses it. There is no other norm: over one image's few squeezed values it
    would leave little of them, and nothing of a single one.
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
    """A `BlockSpec` as a module; the projection is linear."""

    def __init__(self, block: BlockSpec, style: BlockStyle, drop_path: float = 0.0) -> None:
        super().__init__()
        expanded = block.expanded
        body: OrderedDict[str, nn.Module] = OrderedDict()
        if block.expansion != 1:
            body["expand"] = conv_norm_act(block.inputs, expanded, style.norm, style.outer_act())
        body["depthwise"] = conv_norm_act(
            expanded, expanded, style.norm, kernel=3, stride=block.stride, groups=expanded
        )
        if block.excite:
            body["excite"] = SqueezeExcite(expanded, block.squeezed, style.norm)
        body["act"] = style.depthwise_act()
        body["project"] = conv_norm_act(expanded, block.outputs, style.norm)
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

    drop_path: rate of the last block; it grows linearly from 0 at the first. checkpointing: activations inside blocks
    are recomputed in the backward pass, not kept. PyTorch's default initialisation.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        style: BlockStyle,
        *,
        in_chans: int,
        classes: int,
        stem_stride: int,
        head: Sequence[int],
        dropout: float,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        rates = drop_path_rates(drop_path, len(blocks), "timm")
        norm, act = style.norm, style.outer_act
        self.checkpointing = checkpointing
        self.num_features = head[-1]
        self.stem = conv_norm_act(in_chans, blocks[0].inputs, norm, act(), kernel=3, stride=stem_stride)
        self.blocks = nn.Sequential(*(InvertedBottleneck(b, style, r) for b, r in zip(blocks, rates, strict=True)))
        self.head = conv_norm_act(blocks[-1].outputs, head[0], norm, act())
        self.neck = nn.Identity() if len(head) == 1 else conv_norm_act(head[0], head[1], norm, act(), bias=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(head[-1], classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the maps before pooling, (n, head[0], h', w')."""
        x = self.stem(x)
        for block in self.blocks:
            x = run_checkpointed(block, x) if self.checkpointing else block(x)
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        x = self.forward_features(x).mean((2, 3), keepdim=True)
        return self.classifier(self.dropout(self.neck(x).flatten(1)))

    @property
    def num_classes(self) -> int:
        return self.classifier.out_features if isinstance(self.classifier, nn.Linear) else 0

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier; none for 0 classes, and the net then returns the (n, num_features) before it."""
        self.classifier = classifier_like(next(self.parameters()), self.num_features, num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.checkpointing = enable

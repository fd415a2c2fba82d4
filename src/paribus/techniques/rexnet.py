"""ReXNet: a mobile net whose channels grow linearly with the block's index, instead of in a few steps.

Han, Yun, Heo & Yoo, "Rethinking Channel Dimensions for Efficient Model Design", CVPR 2021, arXiv 2007.00992 (its first
version: "ReXNet: Diminishing Representational Bottleneck on Convolutional Neural Network").

    c_i = round(w · (16 + i · 180 / B)),  i = 0 … B−1        stem round(32·w)

w is the width, B the number of blocks; for w < 1 the stem stays 32 and the first block 16, and w multiplies only what
is added to that. Rounding is Python's, halves to the even number, and it matters: at w = 1 and B = 16 the plan meets
38.5, 83.5, 128.5 and 173.5. Its last block has 184.75 channels before rounding, not 196.

What it changes   in `LinearPlan`, the channels of the blocks after the first, and nothing else: number of blocks,
                  strides, expansion, squeeze-excitation, activations, shortcuts, stem, first block and head are the
                  recipe's. `ReXNet` is the whole published network, which differs from MobileNetV2 in four things at
                  once (plan, squeeze-excitation, SiLU, shortcuts), so a gain of it is not a gain of the plan.
Fair comparison   the four are separate values of a mobile net, so that a study can attribute the gain, each cell at the
                  baseline's MACs or parameters: configs/model/mobile_factorial.yaml lists cells and costs. The paper
                  found its line among random plans; `PowerPlan` makes other shapes to compare it with, at equal cost.
Hyperparameters   none in the plan: its width is solved for, so that it costs what the step-wise plan costs.
                  The network: width 1 (0.9 to 3 were released), depth 1, dropout 0.2.
As the authors    partial shortcuts (inputs are added to the first outputs of the same number), SiLU after stem,
                  expansions and head, ReLU6 after the depthwise convolution and squeeze-excitation, which has BatchNorm
                  inside and keeps a twelfth of the expanded channels; head int(1280·w); PyTorch's initialisation (timm:
                  EfficientNet's). A batch of one image cannot be trained on, as that BatchNorm sees single numbers.
Deviations        `LinearPlan` starts from the recipe's own stem and first block, at any width; with 16 and 32 there
                  that is the rule above for w < 1. With MobileNetV2's 17 blocks it has B = 17;
                  repeats=[1,2,2,3,3,5] are the 16 of ReXNet.
                  `ReXNet`: the classifier is a linear layer and not a 1×1 convolution, which is equal. `strides` for
                  small images, `divisor` (multiples of 8 make timm's rexnetr_*) and `drop_path` are ours; their code
                  has none of them. Paper and README disagree on stochastic depth; the rule here, from 0 to the rate in
                  equal steps and on shortcut blocks alone, is the one an author gave timm. Their argument bn_momentum,
                  which does nothing, is left out. `depth` works for the lite network as well. The partial shortcut
                  writes nothing in place and SiLU is torch's, so tracing, compiling and torch.func work.
                  The README's 1.8 GFLOPs and 19 M parameters of "2.0" are those of width 2.2; 2.0 has 1.53 and 16.4.
Cost              matched in multiply-accumulates, not in time or parameters: the early blocks get wider and the late
                  ones narrower, so there are larger activations and usually fewer parameters. Odd numbers of channels
                  (27, 61, 95) suit no vector unit. Multiples of 8 have 5 % more MACs and 2 % more parameters; on one
                  thread of an AMD EPYC they trained 1.04 times as many images a second at 224 pixels (0.77 to 1.60 over
                  25 rounds, so no effect shown) and 1.27 times at 64 (1.03 to 2.35). Not yet measured on CUDA:
                  scripts/divisor_cost.py. Checkpointing keeps 8 instead of 88 MiB an image at 224 pixels.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.inverted import BlockStyle, InvertedNet, make_divisible
from paribus.models.mobile import (
    STRIDES,
    Channels,
    ImageSize,
    MobileNet,
    StepwisePlan,
    Strides,
    choose_image_size,
    describe_blocks,
)

REPEATS = (1, 2, 2, 3, 3, 5)  # blocks in each stage, at depth 1
RISE, LITE_RISE = 180, 164  # channels gained at width 1, over all blocks; over all but one in the lite net


def linear_channels(first: float, rise: float, width: float, blocks: int) -> tuple[int, ...]:
    """`blocks` channel counts round(width · (first + i · rise)). The sum is made one step at a time, as the authors do:
    the last bit of it can decide a half."""
    channels: list[int] = []
    for _ in range(blocks):
        channels.append(round(first * width))
        first += rise
    return tuple(channels)


def rexnet_channels(width: float = 1.0, blocks: int = 16, lite: bool = False, divisor: int = 1) -> Channels:
    """The published channel plan for this width and number of blocks, rounded once more to multiples of `divisor`; lite
    rounds to multiples of 8.

    >>> rexnet_channels().blocks
    (16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185)
    """
    stem, first = (32 / width, 16 / width) if width < 1 else (32.0, 16.0)
    rise = LITE_RISE / (blocks - 1) if lite else RISE / blocks  # the two do differ in what they divide by
    channels = (round(stem * width), *linear_channels(first, rise, width, blocks))
    stem_channels, *rest = (make_divisible(c, 8 if lite else divisor) for c in channels)
    return Channels(stem_channels, tuple(rest))


@schema
class LinearPlan:
    """Linear in the block's index. Stem and first block are the step-wise plan's at the net's own width, whatever the
    width of the rest: nets that are compared have the same ends."""

    def channels(self, net: MobileNet, width: float) -> Channels:
        ends = StepwisePlan().channels(net, net.width)
        first, blocks = ends.blocks[0], sum(net.repeats)
        line = linear_channels(first / width, RISE / blocks, width, blocks)
        return Channels(ends.stem, tuple(make_divisible(c, net.divisor or 1) for c in line))


@schema
class PowerPlan:
    """Channels that grow with a power of the block's index, for asking whether a line is the best of these shapes.

    power: 1 is `LinearPlan`; below it the early blocks are wider and the late ones narrower, above it the other way.
    """

    power: Annotated[float, Field(gt=0)] = 1.0

    def channels(self, net: MobileNet, width: float) -> Channels:
        ends = StepwisePlan().channels(net, net.width)
        first, blocks = ends.blocks[0], sum(net.repeats)
        grown = (first + width * RISE * (index / blocks) ** self.power for index in range(blocks))
        return Channels(ends.stem, tuple(make_divisible(round(c), net.divisor or 1) for c in grown))


def rexnet(
    width: float = 1.0,
    depth: float = 1.0,
    num_classes: int = 1000,
    lite: bool = False,
    in_chans: int = 3,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    strides: ImageSize = 224,
    divisor: int = 1,
    checkpointing: bool = False,
) -> nn.Module:
    """ReXNet, for any training loop: (n, in_chans, h, w) images to (n, num_classes) logits.

    width, depth > 0 multiply channels and blocks. lite: no squeeze-excitation, ReLU6 everywhere, multiples of 8, a
    head of two layers. dropout, drop_path: rates in [0, 1). strides: 16, 32 or 64 for images of about this many pixels
    a side; 224 is the authors'. divisor: all channels are multiples of it; 8, and 16 at width 3, make timm's rexnetr_*.
    checkpointing: less memory for about a third more time, same gradients. Raises ValueError for anything else.

    >>> sum(p.numel() for p in rexnet().parameters())
    4796873
    """
    if not width > 0 or not depth > 0:
        raise ValueError(f"rexnet needs width > 0 and depth > 0, got width={width}, depth={depth}")
    if not 0 <= dropout < 1 or not 0 <= drop_path < 1:
        raise ValueError(f"rexnet needs rates in [0, 1), got dropout={dropout}, drop_path={drop_path}")
    if strides not in STRIDES:
        raise ValueError(f"rexnet needs strides to be one of {', '.join(map(str, STRIDES))}, got {strides!r}")
    if divisor < 1 or (lite and divisor != 1):
        raise ValueError(f"rexnet needs divisor >= 1, and 1 for a lite net, which has its own; got {divisor}")
    repeats = [math.ceil(repeat * depth) for repeat in REPEATS]
    stem_stride, stride2_stages = STRIDES[strides]
    channels = rexnet_channels(width, sum(repeats), lite, divisor)
    # truncated, not rounded: width 0.9 gives 1152
    head = (int(1280 * max(1.0, width)), 1024) if lite else (make_divisible(int(1280 * width), divisor),)
    se_stages = () if lite else range(2, len(repeats))
    return InvertedNet(
        describe_blocks(channels, repeats, stride2_stages, expansion=6, se_stages=se_stages, divisor=divisor),
        BlockStyle(activation="relu6" if lite else "authors", norm="batch", shortcut="partial"),
        in_chans=in_chans,
        classes=num_classes,
        stem_stride=stem_stride,
        head=head,
        dropout=dropout,
        drop_path=drop_path,
        checkpointing=checkpointing,
    )


@schema
class ReXNet:
    """The published network; see `rexnet`.

    width: multiplies the channels; 0.9, 1.0, 1.3, 1.5, 2.0 and 3.0 were released. depth: multiplies the blocks. lite:
    ReXNet-lite, without squeeze-excitation and with ReLU6 alone. dropout: before the classifier, 0–1. drop_path:
    stochastic depth of the last block, 0–1. strides: for images of about this many pixels a side; auto follows the
    data. divisor: channels are multiples of it. checkpointing: less memory for more time, same gradients.
    """

    width: Annotated[float, Field(gt=0)] = 1.0
    depth: Annotated[float, Field(gt=0)] = 1.0
    lite: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    strides: Strides = "auto"
    divisor: Annotated[int, Field(ge=1)] = 1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.lite and self.divisor != 1:
            raise ValueError(f"divisor is {self.divisor}; lite nets have multiples of 8 already: leave it 1")

    def __call__(self, spec: Spec) -> nn.Module:
        return rexnet(
            self.width,
            self.depth,
            spec.classes,
            self.lite,
            spec.channels,
            self.dropout,
            self.drop_path,
            choose_image_size(self.strides, spec),
            self.divisor,
            self.checkpointing,
        )

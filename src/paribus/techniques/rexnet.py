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
Hyperparameters   none in the plan: its width is solved for, so that it costs what the step-wise plan costs.
                  The network: width 1 (0.9 to 3 were released), depth 1, dropout 0.2.
As the authors    partial shortcuts (inputs are added to the first outputs of the same number), SiLU after stem,
                  expansions and head, ReLU6 after the depthwise convolution and squeeze-excitation, which has BatchNorm
                  inside and keeps a twelfth of the expanded channels; head int(1280·w); PyTorch's initialisation.
Deviations        `LinearPlan` starts from the recipe's own stem and first block, at any width; with 16 and 32 there
                  that is the rule above for w < 1. With MobileNetV2's 17 blocks it has B = 17;
                  repeats=[1,2,2,3,3,5] are the 16 of ReXNet.
                  `ReXNet`: the classifier is a linear layer and not a 1×1 convolution, which is equal. `strides` for
                  small images and `drop_path` (as timm has it) are ours; their code has neither. Their argument
                  bn_momentum, which does nothing, is left out. `depth` works for the lite network as well.
Cost              matched in multiply-accumulates, not in time or parameters: the early blocks get wider and the late
                  ones narrower, so there are larger activations and usually fewer parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.inverted import InvertedNet, Style
from paribus.models.macs import match_cost
from paribus.models.mobile import (
    STRIDES,
    Channels,
    MobileNet,
    Size,
    StepwisePlan,
    Strides,
    describe_blocks,
    divisible,
    size_for,
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


def rexnet_channels(width: float = 1.0, blocks: int = 16, lite: bool = False) -> Channels:
    """The published channel plan for this width and number of blocks; lite rounds to multiples of 8.

    >>> rexnet_channels().blocks
    (16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185)
    """
    stem, first = (32 / width, 16 / width) if width < 1 else (32.0, 16.0)
    rise = LITE_RISE / (blocks - 1) if lite else RISE / blocks  # the two do differ in what they divide by
    channels = (round(stem * width), *linear_channels(first, rise, width, blocks))
    stem_channels, *rest = (divisible(c) for c in channels) if lite else channels
    return Channels(stem_channels, tuple(rest))


@schema
class LinearPlan:
    """Linear in the block's index, from the first block on, at the step-wise plan's multiply-accumulates.

    Raises ConfigError if no width comes within 1 % of them, which happens to nets of a few channels.
    """

    def channels(self, net: MobileNet, spec: Spec) -> Channels:
        """Solve for the width; `notes` of the result has both plans' numbers."""
        stepwise = StepwisePlan().channels(net, spec)
        first, blocks = stepwise.blocks[0], len(stepwise.blocks)

        def plan(width: float) -> Channels:
            return Channels(stepwise.stem, linear_channels(first / width, RISE / blocks, width, blocks))

        wanted = net.macs(stepwise, spec)
        width = match_cost(lambda w: net.macs(plan(w), spec), wanted, low=0.01 * net.width, high=4 * net.width)
        solved = plan(width)
        (macs, parameters), (target, target_parameters) = net.cost(solved, spec), net.cost(stepwise, spec)
        note = (
            f"linear plan at width {width:.4f}: {macs:,} MACs, {parameters:,} parameters; "
            f"step-wise plan at width {net.width:g}: {target:,} MACs, {target_parameters:,} parameters; "
            f"MACs differ by {macs / target - 1:+.2%}"
        )
        return Channels(solved.stem, solved.blocks, (note,))


def rexnet(
    width: float = 1.0,
    depth: float = 1.0,
    num_classes: int = 1000,
    lite: bool = False,
    in_chans: int = 3,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    strides: Size = 224,
) -> nn.Module:
    """ReXNet, for any training loop: (n, in_chans, h, w) images to (n, num_classes) logits.

    width, depth > 0 multiply channels and blocks. lite: no squeeze-excitation, ReLU6 everywhere, multiples of 8, a
    head of two layers. dropout, drop_path: rates in [0, 1). strides: 16, 32 or 64 for images of about so many pixels
    a side; 224 is the authors'. Raises ValueError for anything else.

    >>> sum(p.numel() for p in rexnet().parameters())
    4796873
    """
    if not width > 0 or not depth > 0:
        raise ValueError(f"rexnet needs width > 0 and depth > 0, got width={width}, depth={depth}")
    if not 0 <= dropout < 1 or not 0 <= drop_path < 1:
        raise ValueError(f"rexnet needs rates in [0, 1), got dropout={dropout}, drop_path={drop_path}")
    if strides not in STRIDES:
        raise ValueError(f"rexnet needs strides to be one of {', '.join(map(str, STRIDES))}, got {strides!r}")
    repeats = [math.ceil(repeat * depth) for repeat in REPEATS]
    stem_stride, halving = STRIDES[strides]
    channels = rexnet_channels(width, sum(repeats), lite)
    # truncated, not rounded: width 0.9 gives 1152
    head = (int(1280 * max(1.0, width)), 1024) if lite else (int(1280 * width),)
    return InvertedNet(
        describe_blocks(channels, repeats, halving, expansion=6, excite_from=None if lite else 2),
        Style(activation="relu6" if lite else "silu", norm="batch", shortcut="partial"),
        in_chans=in_chans,
        classes=num_classes,
        stem_stride=stem_stride,
        head=head,
        dropout=dropout,
        drop_path=drop_path,
    )


@schema
class ReXNet:
    """The published network. See `rexnet`; strides "auto" takes what the size of the images asks for."""

    width: Annotated[float, Field(gt=0)] = 1.0
    depth: Annotated[float, Field(gt=0)] = 1.0
    lite: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    strides: Strides = "auto"

    def __call__(self, spec: Spec) -> nn.Module:
        size = size_for(self.strides, spec)
        return rexnet(
            self.width, self.depth, spec.classes, self.lite, spec.channels, self.dropout, self.drop_path, size
        )


_IN_TIMM = {
    ".body.expand.": ".conv_exp.",
    ".body.depthwise.": ".conv_dw.",
    ".body.excite.squeeze.": ".se.fc1.",
    ".body.excite.norm.": ".se.bn.",
    ".body.excite.excite.": ".se.fc2.",
    ".body.project.": ".conv_pwl.",
    ".norm.": ".bn.",
}


def timm_name(name: str, blocks: int) -> str:
    """timm's name for a tensor of our network, which calls its head convolution one more block."""
    for own, theirs in (("head.", f"features.{blocks}."), ("classifier.", "head.fc."), ("blocks.", "features.")):
        if name.startswith(own):
            name = theirs + name.removeprefix(own)
            break
    for own, theirs in _IN_TIMM.items():
        name = name.replace(own, theirs)
    return name


def load_timm_rexnet(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of timm's rexnet_100, 130, 150, 200 or 300 into `rexnet` of the same width and classes.

    Raises ValueError, with nothing copied, if a tensor is missing, left over or of another shape: lite nets, timm's
    rexnetr_* (multiples of 8) and other widths do not fit.
    """
    if not isinstance(model, InvertedNet):
        raise ValueError(f"load_timm_rexnet needs a model made by rexnet(), got {type(model).__name__}")
    own = model.state_dict()
    names = {name: timm_name(name, len(model.blocks)) for name in own}
    wrong = [f"{theirs} is missing" for theirs in names.values() if theirs not in state_dict]
    wrong += [f"{theirs} has no place" for theirs in state_dict if theirs not in set(names.values())]
    for name, theirs in names.items():
        if theirs in state_dict and state_dict[theirs].shape != own[name].shape:
            found, wanted = tuple(state_dict[theirs].shape), tuple(own[name].shape)
            wrong.append(f"{theirs} has shape {found}, not {wanted}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"these are not the weights of this ReXNet: {'; '.join(wrong[:3])}{more}; check the width")
    model.load_state_dict({name: state_dict[theirs] for name, theirs in names.items()})

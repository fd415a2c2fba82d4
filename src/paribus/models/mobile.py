"""Mobile inverted-bottleneck nets whose channel plan is a value: the blocks stay, how wide each of them is can change.

Sandler et al. 2018, arXiv 1801.04381 (MobileNetV2), table 2. A net is described before it is built: a list of `Block`s,
plain numbers that can be compared and counted, then one module made from that list. With the defaults and
`shortcut="equal"` the net is MobileNetV2: 3.50 M parameters, 301 M multiply-accumulates at 224 pixels.

The default shortcut is the partial one. Under the step-wise plan at 224 pixels it adds two to MobileNetV2's ten, where
a stage begins wider without a stride; under a plan in which every block widens, "equal" would leave none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm
from paribus.models.inverted import Activation, Block, InvertedNet, Shortcut, Style
from paribus.models.macs import count_macs

Size = Literal[16, 32, 64, 224]
Strides = Size | Literal["auto"]
Count = Annotated[int, Field(ge=1)]

# For images of about so many pixels: the stem's stride, and the stages that begin with stride 2. Small images lose the
# stem's stride first and then the deepest ones, so that 4×4 positions are left, as 7×7 are of 224. With the strides
# of 224, 32 pixels would end as a single position, and most of a 3×3 kernel would see padding.
STRIDES: dict[Size, tuple[int, frozenset[int]]] = {
    224: (2, frozenset({1, 2, 3, 5})),
    64: (1, frozenset({1, 2, 3, 5})),
    32: (1, frozenset({1, 2, 3})),
    16: (1, frozenset({1, 2})),
}


@dataclass(frozen=True)
class Channels:
    """A channel plan: output channels of the stem and of each block, and remarks on how they were found."""

    stem: int
    blocks: tuple[int, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Plan(Protocol):
    """Decides the channels of a net, and nothing else about it."""

    def channels(self, net: MobileNet, spec: Spec) -> Channels: ...


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` that MobileNets round to: the nearest, but never more than 10 % below, nor under `by`."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def size_for(strides: Strides, spec: Spec) -> Size:
    """The row of STRIDES: the one asked for, or for "auto" the one made for images of this size."""
    if strides != "auto":
        return strides
    side = min(spec.height, spec.width)
    return 16 if side <= 20 else 32 if side <= 48 else 64 if side <= 128 else 224


def describe_blocks(
    channels: Channels, repeats: Sequence[int], halving: frozenset[int], expansion: int, excite_from: int | None
) -> tuple[Block, ...]:
    """The blocks of a net. The first stage does not expand; stages from `excite_from` on have squeeze-excitation."""
    blocks: list[Block] = []
    inputs = channels.stem
    for stage, repeat in enumerate(repeats):
        for index in range(repeat):
            outputs = channels.blocks[len(blocks)]
            stride = 2 if index == 0 and stage in halving else 1
            excite = excite_from is not None and stage >= excite_from
            blocks.append(Block(inputs, outputs, expansion if stage else 1, stride, excite))
            inputs = outputs
    return tuple(blocks)


@schema
class StepwisePlan:
    """MobileNetV2's: all blocks of a stage are as wide as its step, times the net's width, in multiples of 8."""

    def channels(self, net: MobileNet, spec: Spec) -> Channels:
        del spec
        steps = zip(net.steps, net.repeats, strict=True)
        blocks = [divisible(step * net.width) for step, repeat in steps for _ in range(repeat)]
        return Channels(divisible(net.stem * net.width), tuple(blocks))


@schema
class MobileNet:
    """An inverted-bottleneck net. Two of them that differ in `plan` alone have the same blocks but for channels.

    plan: decides the channels. width: multiplies the step-wise plan's channels; a plan that matches cost matches that.
    repeats, steps: blocks in each stage, and their channels at width 1 under the step-wise plan. stem, head: channels
    of the first convolution at width 1, and of the last one at any width. expansion: in all stages but the first.
    se: squeeze-excitation from the third stage on. activation, shortcut, norm: see Style. strides: for images of about
    so many pixels, see STRIDES. dropout: before the classifier, 0–1.
    """

    plan: Plan = StepwisePlan()
    width: Annotated[float, Field(gt=0)] = 1.0
    repeats: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3, 4, 3, 3, 1)
    steps: tuple[Count, ...] = (16, 24, 32, 64, 96, 160, 320)
    stem: Count = 32
    head: Count = 1280
    expansion: Count = 6
    se: bool = False
    activation: Activation = "relu6"
    shortcut: Shortcut = "partial"
    norm: Norm = "batch"
    strides: Strides = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @field_validator("steps")
    @classmethod
    def _one_a_stage(cls, steps: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        stages = len(info.data.get("repeats", steps))  # absent if it was wrong itself
        if len(steps) != stages:
            raise ValueError(f"should have one number for each of the {stages} stages of repeats")
        return steps

    def blocks(self, channels: Channels, spec: Spec) -> tuple[Block, ...]:
        """The net's blocks under any plan's channels."""
        _, halving = STRIDES[size_for(self.strides, spec)]
        return describe_blocks(channels, self.repeats, halving, self.expansion, 2 if self.se else None)

    def assembled(self, channels: Channels, spec: Spec) -> InvertedNet:
        """The module under any plan's channels."""
        return InvertedNet(
            self.blocks(channels, spec),
            Style(self.activation, self.norm, self.shortcut),
            in_chans=spec.channels,
            classes=spec.classes,
            stem_stride=STRIDES[size_for(self.strides, spec)][0],
            head=(self.head,),
            dropout=self.dropout,
        )

    def macs(self, channels: Channels, spec: Spec) -> int:
        """Multiply-accumulates of one image, from the description alone: what `count_macs` finds, without the tenth of
        a second, since a plan may try many widths."""
        height, width, inputs = spec.height, spec.width, spec.channels
        total = 0

        def convolve(cost: int, stride: int = 1) -> None:
            nonlocal height, width, total
            height, width = -(-height // stride), -(-width // stride)
            total += cost * height * width

        convolve(9 * inputs * channels.stem, STRIDES[size_for(self.strides, spec)][0])
        for block in self.blocks(channels, spec):
            if block.expansion != 1:
                convolve(block.inputs * block.expanded)
            convolve(9 * block.expanded, block.stride)
            convolve(block.expanded * block.outputs)
            total += 2 * block.expanded * block.squeezed
        convolve(channels.blocks[-1] * self.head)
        return total + self.head * spec.classes

    def cost(self, channels: Channels, spec: Spec) -> tuple[int, int]:
        """Multiply-accumulates of one image and parameters, counted on a net of shapes: no weights are drawn."""
        with torch.device("meta"):
            shapes = self.assembled(channels, spec)
        return count_macs(shapes, spec), sum(p.numel() for p in shapes.parameters())

    def __call__(self, spec: Spec) -> nn.Module:
        chosen = self.plan.channels(self, spec)
        net = self.assembled(chosen, spec)
        net.notes = chosen.notes
        return net

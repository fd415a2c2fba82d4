"""Mobile inverted-bottleneck nets whose channel plan is a parameter: the blocks stay, the width of each can change.

Sandler et al. 2018, arXiv 1801.04381 (MobileNetV2), table 2. A net is described before it is built: a list of
`BlockSpec`s, plain numbers that can be compared and counted, then one module made from that list. With the defaults and
`shortcut="equal"` the net is MobileNetV2: 3.50 M parameters, 301 M multiply-accumulates at 224 pixels.

The default shortcut is the partial one. Under the step-wise plan at 224 pixels it adds two to MobileNetV2's ten, where
a stage begins wider without a stride; under a plan in which every block widens, "equal" would leave none at all.

What ReXNet changed at once (plan, squeeze-excitation, activations, shortcuts) are separate values here, and `match`
makes what differs from the reference cost the same; configs/model/mobile_factorial.yaml lists the cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import Field, ValidationInfo, field_validator
from torch import nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm
from paribus.models.inverted import Activation, BlockSpec, BlockStyle, InvertedNet, Shortcut, make_divisible
from paribus.models.inverted_cost import Cost, compute_cost
from paribus.models.macs import match_cost

ImageSize = Literal[16, 32, 64, 224]
Strides = ImageSize | Literal["auto"]
Match = Literal["macs", "params", "off"]
Count = Annotated[int, Field(ge=1)]
StageIndex = Annotated[int, Field(ge=0)]

# For images of about this many pixels a side: the stem's stride, and the stages that begin with stride 2. Small images
# lose the stem's stride first and then the deepest ones, so that the last map is 4×4, as it is 7×7 for 224. With the
# strides for 224, 32 pixels would end as a single position, and most of a 3×3 kernel would see padding.
STRIDES: dict[ImageSize, tuple[int, frozenset[int]]] = {
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
class ChannelPlan(Protocol):
    """Decides the channels of a net at a width, and nothing else about it. The wider, the more channels."""

    def channels(self, net: MobileNet, width: float) -> Channels: ...


def choose_image_size(strides: Strides, spec: Spec) -> ImageSize:
    """The row of STRIDES: the requested one, or for "auto" the one for images of this size."""
    if strides != "auto":
        return strides
    side = min(spec.height, spec.width)
    return 16 if side <= 20 else 32 if side <= 48 else 64 if side <= 128 else 224


def describe_blocks(
    channels: Channels,
    repeats: Sequence[int],
    stride2_stages: Collection[int],
    expansion: int,
    se_stages: Collection[int],
    divisor: int = 1,
) -> tuple[BlockSpec, ...]:
    """The blocks of a net. The first stage does not expand; stages in `stride2_stages` begin with stride 2, those in
    `se_stages` have squeeze-excitation, its inner channels a multiple of `divisor`."""
    blocks: list[BlockSpec] = []
    inputs = channels.stem
    for stage, repeat in enumerate(repeats):
        for index in range(repeat):
            outputs = channels.blocks[len(blocks)]
            stride = 2 if index == 0 and stage in stride2_stages else 1
            blocks.append(BlockSpec(inputs, outputs, expansion if stage else 1, stride, stage in se_stages, divisor))
            inputs = outputs
    return tuple(blocks)


@schema
class StepwisePlan:
    """MobileNetV2's: all blocks of a stage are as wide as its step, times the width, in multiples of 8.

    At a width other than the net's own, stem and first stage keep the net's own width: nets that are compared have the
    same ends.
    """

    def channels(self, net: MobileNet, width: float) -> Channels:
        by = net.divisor or 8
        wide = [make_divisible(step * (width if stage else net.width), by) for stage, step in enumerate(net.steps)]
        blocks = [channels for channels, repeat in zip(wide, net.repeats, strict=True) for _ in range(repeat)]
        return Channels(make_divisible(net.stem * net.width, by), tuple(blocks))


@schema
class MobileNet:
    """An inverted-bottleneck net. Two of them that differ in `plan` alone have the same blocks but for channels.

    plan: decides the channels. width: multiplies the channels, of the reference's step-wise plan if they are matched.
    repeats, steps: blocks in each stage, and their channels at width 1 under the step-wise plan. stem, head: channels
    of the first convolution at width 1, and of the last one at any width. neck: channels of one more layer after the
    average pool, as ReXNet-lite has it. expansion: in all stages but the first. se: squeeze-excitation, in the third
    stage and all later ones or in the stages listed (the first is 0). activation: of the blocks; authors is ReXNet's
    mix of both. shortcut: where a block keeps its channels (equal), or over as many as it keeps (partial). norm: after
    every convolution. divisor: channels are rounded to multiples of it; null takes the plan's own, 8 for the step-wise
    and 1 for the linear plan. match: the cost that is matched to the reference's, within 1 %, by another width; "off"
    takes `width` as it is. reference: the same net under the step-wise plan, with squeeze-excitation as in this one
    ("same") or without any ("plain": its cost is then paid for in channels, under either plan). strides: for images of
    about this many pixels a side; auto follows the data. dropout: before the classifier, 0–1. drop_path: stochastic
    depth of the last block, 0–1, growing linearly. checkpointing: less memory for more time, same gradients.
    """

    plan: ChannelPlan = StepwisePlan()
    width: Annotated[float, Field(gt=0)] = 1.0
    repeats: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3, 4, 3, 3, 1)
    steps: tuple[Count, ...] = (16, 24, 32, 64, 96, 160, 320)
    stem: Count = 32
    head: Count = 1280
    neck: Count | None = None
    expansion: Count = 6
    se: bool | tuple[StageIndex, ...] = False
    activation: Activation = "relu6"
    shortcut: Shortcut = "partial"
    norm: Norm = "batch"
    divisor: Count | None = None
    match: Match = "macs"
    reference: Literal["same", "plain"] = "same"
    strides: Strides = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    checkpointing: bool = False

    @field_validator("steps")
    @classmethod
    def _check_steps(cls, steps: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        stages = len(info.data.get("repeats", steps))  # absent if it was wrong itself
        if len(steps) != stages:
            raise ValueError(f"should have one number for each of the {stages} stages of repeats")
        return steps

    @field_validator("se")
    @classmethod
    def _check_se(cls, se: bool | tuple[int, ...], info: ValidationInfo) -> bool | tuple[int, ...]:
        stages = len(info.data.get("repeats", ()))
        if not isinstance(se, bool) and stages and max(se, default=0) >= stages:
            raise ValueError(f"should be true, false or a list of stages, of which the last is {stages - 1}")
        return se

    def blocks(self, channels: Channels, spec: Spec) -> tuple[BlockSpec, ...]:
        """The net's blocks under any plan's channels."""
        _, stride2_stages = STRIDES[choose_image_size(self.strides, spec)]
        se_stages = (range(2, len(self.repeats)) if self.se else ()) if isinstance(self.se, bool) else self.se
        return describe_blocks(channels, self.repeats, stride2_stages, self.expansion, se_stages, self.divisor or 1)

    def build_network(self, channels: Channels, spec: Spec) -> InvertedNet:
        """The module under any plan's channels."""
        return InvertedNet(
            self.blocks(channels, spec),
            BlockStyle(self.activation, self.norm, self.shortcut),
            in_chans=spec.channels,
            classes=spec.classes,
            stem_stride=STRIDES[choose_image_size(self.strides, spec)][0],
            head=self._head,
            dropout=self.dropout,
            drop_path=self.drop_path,
            checkpointing=self.checkpointing,
        )

    def cost(self, channels: Channels, spec: Spec) -> Cost:
        """Under any plan's channels, from the description: nothing is built and no weights are drawn."""
        stem_stride, _ = STRIDES[choose_image_size(self.strides, spec)]
        blocks = self.blocks(channels, spec)
        return compute_cost(blocks, spec, stem_stride=stem_stride, head=self._head, norm=self.norm)

    def channels(self, spec: Spec) -> Channels:
        """The plan's, at the width that matches the reference; `notes` has what both cost.

        Raises ConfigError if no width comes within 1 %, which happens to nets of a few channels.
        """
        reference = replace(self, plan=StepwisePlan(), se=self.se if self.reference == "same" else False)
        own_channels, reference_channels = (
            self.plan.channels(self, self.width),
            reference.plan.channels(reference, self.width),
        )
        if self.match == "off" or self.blocks(own_channels, spec) == reference.blocks(reference_channels, spec):
            return own_channels
        what, unit = (0, "MACs") if self.match == "macs" else (1, "parameters")
        width = match_cost(
            lambda tried: self.cost(self.plan.channels(self, tried), spec)[what],
            reference.cost(reference_channels, spec)[what],
            low=0.01 * self.width,
            high=4 * self.width,
            unit=unit,
        )
        solved = self.plan.channels(self, width)
        found, wanted = self.cost(solved, spec), reference.cost(reference_channels, spec)
        plain = " without squeeze-excitation" if self.se and not reference.se else ""
        note = (
            f"{type(self.plan).__name__} at width {width:.4f}: {found.macs:,} MACs, {found.parameters:,} parameters; "
            f"StepwisePlan{plain} at width {self.width:g}: {wanted.macs:,} MACs, {wanted.parameters:,} parameters; "
            f"{unit} differ by {found[what] / wanted[what] - 1:+.2%}"
        )
        return replace(solved, notes=(note,))

    def __call__(self, spec: Spec) -> nn.Module:
        chosen = self.channels(spec)
        net = self.build_network(chosen, spec)
        net.notes = chosen.notes
        return net

    @property
    def _head(self) -> tuple[int, ...]:
        return (self.head,) if self.neck is None else (self.head, self.neck)

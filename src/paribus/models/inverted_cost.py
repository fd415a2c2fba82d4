"""The cost of a net of inverted bottlenecks, from its description alone: equal to torch's count on the built net,
without the 0.1 s that building and counting take, since matching two nets tries many widths."""

from collections.abc import Sequence
from typing import NamedTuple

from paribus.core.protocols import Spec
from paribus.models.convnet import Norm
from paribus.models.inverted import BlockSpec


class Cost(NamedTuple):
    """macs: multiply-accumulates of one image. parameters: trainable numbers."""

    macs: int
    parameters: int


def compute_cost(blocks: Sequence[BlockSpec], spec: Spec, *, stem_stride: int, head: Sequence[int], norm: Norm) -> Cost:
    """Of an `InvertedNet` made with these arguments for these images."""
    height, width, macs, parameters = spec.height, spec.width, 0, 0

    def convolve(outputs: int, inputs: int, kernel: int = 1, stride: int = 1, bias: bool = False) -> None:
        nonlocal height, width, macs, parameters
        height, width = -(-height // stride), -(-width // stride)
        macs += outputs * inputs * kernel**2 * height * width
        # scale and shift of a norm, or the bias of a convolution without one
        parameters += outputs * (inputs * kernel**2 + (1 if norm == "none" else 2) + (bias and norm != "none"))

    convolve(blocks[0].inputs, spec.channels, 3, stem_stride)
    for block in blocks:
        expanded, squeezed = block.expanded, block.squeezed
        if block.expansion != 1:
            convolve(expanded, block.inputs)
        convolve(expanded, 1, 3, block.stride)
        if block.excite:
            macs += 2 * expanded * squeezed
            parameters += 2 * expanded * squeezed + expanded + squeezed + (2 * squeezed if norm == "batch" else 0)
        convolve(block.outputs, expanded)
    convolve(head[0], blocks[-1].outputs)
    height = width = 1  # the average pool
    if len(head) > 1:
        convolve(head[1], head[0], bias=True)
    return Cost(macs + head[-1] * spec.classes, parameters + (head[-1] + 1) * spec.classes)

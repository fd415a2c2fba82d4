"""PyramidNet for small images: a ResNet whose width grows a little in every block instead of doubling in a few.

Han, Kim & Kim, "Deep Pyramidal Residual Networks", CVPR 2017, arXiv 1610.02915, in the form of the CutMix authors' code
(additive widening; no ReLU after the stem nor before a block's first convolution): the network of its CIFAR tables.
"""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec

STEM = 16
EXPANSION = 4  # of a bottleneck block: its last convolution has this many times its width


def block_count(depth: int, bottleneck: bool) -> int:
    """Blocks in all three stages, of 3 or 2 convolutions each; the stem and the classifier are the other 2 layers."""
    return (depth - 2) // (3 if bottleneck else 2)


def plan(depth: int, alpha: int, bottleneck: bool) -> list[int]:
    """The width of each block: a running sum that ends at 16 + alpha, rounded block by block.

    Added up in floating point and rounded half to even, as in the authors' code, so that the plan is theirs where a sum
    lies at a half.
    """
    blocks = block_count(depth, bottleneck)
    width, widths = float(STEM), list[int]()
    for _ in range(blocks):
        width += alpha / blocks
        widths.append(round(width))
    return widths


def convolutions(inputs: int, width: int, stride: int, bottleneck: bool) -> list[nn.Conv2d]:
    """The convolutions of one block, in order."""

    def conv(i: int, o: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(i, o, kernel, stride, padding=kernel // 2, bias=False)

    if bottleneck:
        return [conv(inputs, width, 1), conv(width, width, 3, stride), conv(width, width * EXPANSION, 1)]
    return [conv(inputs, width, 3, stride), conv(width, width, 3)]


def residual_path(convs: Sequence[nn.Conv2d]) -> nn.Sequential:
    """BN-conv-BN-ReLU-conv-...-BN: no ReLU before the first convolution nor after the last."""
    layers: list[nn.Module] = [nn.BatchNorm2d(convs[0].in_channels)]
    for i, conv in enumerate(convs):
        if i > 0:
            layers.append(nn.ReLU())
        layers += [conv, nn.BatchNorm2d(conv.out_channels)]
    return nn.Sequential(*layers)


class PyramidBlock(nn.Module):
    """The shortcut has no parameters: it averages 2×2 pixels where the stride is 2, and new channels start from
    zero."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.residual = residual_path(convolutions(inputs, width, stride, bottleneck))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.stride > 1:
            x = F.avg_pool2d(x, 2, ceil_mode=True)  # an odd size becomes as large as the convolution's output
        new_channels = out.shape[1] - x.shape[1]
        return out + (F.pad(x, (0, 0, 0, 0, 0, new_channels)) if new_channels else x)


class PyramidNetModule(nn.Module):
    def __init__(self, spec: Spec, widths: Sequence[int], bottleneck: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(spec.channels, STEM, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM)
        stage, channels = len(widths) // 3, STEM
        blocks: list[nn.Module] = []
        for i, width in enumerate(widths):
            blocks.append(PyramidBlock(channels, width, 2 if i in (stage, 2 * stage) else 1, bottleneck))
            channels = width * (EXPANSION if bottleneck else 1)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # N(0, 2 / (k² outputs)); BatchNorm and the classifier as in torch
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes); the last average is over all pixels there are, 8×8 for 32×32 images."""
        x = self.blocks(self.stem_norm(self.stem(x)))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


@schema
class PyramidNet:
    """bottleneck: blocks of three convolutions, 1×1, 3×3 and 1×1, instead of two of 3×3. depth: 9n+2 layers with
    bottlenecks, 6n+2 without. alpha: channels added from the first block to the last, by alpha / 3n a block.
    """

    bottleneck: bool = True  # before depth, whose check needs it
    depth: Annotated[int, Field(ge=8)] = 200
    alpha: Annotated[int, Field(ge=1)] = 240

    @field_validator("depth")
    @classmethod
    def _check_depth(cls, depth: int, info: ValidationInfo) -> int:
        if info.data.get("bottleneck", True) and (depth - 2) % 9:
            raise ValueError("depth must be 9n+2 with bottleneck blocks: 11, 20, 29, ..., 110, ..., 200")
        if not info.data.get("bottleneck", True) and (depth - 2) % 6:
            raise ValueError("depth must be 6n+2 with basic blocks: 8, 14, 20, ..., 110, ..., 200")
        return depth

    def __call__(self, spec: Spec) -> nn.Module:
        return PyramidNetModule(spec, plan(self.depth, self.alpha, self.bottleneck), self.bottleneck)

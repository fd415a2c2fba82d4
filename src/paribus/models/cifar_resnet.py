"""The ResNet-(6n+2) family for 32×32 images (He et al. 2016, arXiv 1512.03385, §4.2), with parameter-free shortcuts."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm, norm_layer


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; where the shape changes the shortcut skips pixels and pads channels with zeros (option
    A)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = norm_layer(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride > 1 or self.new_channels:
            half = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.new_channels - half))
        return F.relu(out + x)


class CifarResNetModule(nn.Module):
    def __init__(self, spec: Spec, depth: int, width: int, norm: Norm) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem = nn.Conv2d(spec.channels, width, 3, padding=1, bias=False)
        self.norm = norm_layer(norm, width)
        layers: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, width * 2**stage, stride, norm))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))


@schema
class CifarResNet:
    """depth: 6n+2 layers (8, 14, 20, 32, 44, 56, 110). width: channels of the first stage, 16 in the paper.
    norm: after every convolution."""

    depth: Annotated[int, Field(ge=8)] = 20
    width: Annotated[int, Field(ge=1)] = 16
    norm: Norm = "batch"

    @field_validator("depth")
    @classmethod
    def _check_depth(cls, depth: int) -> int:
        if (depth - 2) % 6:
            raise ValueError("depth must be 6n+2: 8, 14, 20, 26, 32, ...")
        return depth

    def __call__(self, spec: Spec) -> nn.Module:
        return CifarResNetModule(spec, self.depth, self.width, self.norm)

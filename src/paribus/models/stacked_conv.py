"""Convolutions of one size in a row, without strides: the networks of ReBias on Biased MNIST, where the size of the
kernel bounds what a network can see. With 1×1 kernels it sees colours and no shapes."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec
from paribus.models.convnet import Norm, norm_layer


class StackedConvNet(nn.Module):
    """Convolution, normalisation and ReLU for each width; average over all places; a linear classifier."""

    def __init__(self, spec: Spec, widths: tuple[int, ...], kernel: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((spec.channels, *widths), widths, strict=False):
            conv = nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=norm == "none")
            layers += [conv, norm_layer(norm, width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        return self.head(self.features(x).mean((2, 3)))


@schema
class StackedConv:
    """widths: channels of each convolution. kernel: its size in pixels, odd. norm: after each."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = (16, 32, 64, 128)
    kernel: Literal[1, 3, 5, 7, 9] = 7
    norm: Norm = "batch"

    def __call__(self, spec: Spec) -> nn.Module:
        return StackedConvNet(spec, self.widths, self.kernel, self.norm)

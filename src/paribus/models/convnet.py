"""A plain convolutional net, small enough for a CPU: the model of smoke tests and of the first comparisons."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec

Norm = Literal["batch", "group", "none"]


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """BatchNorm, GroupNorm with at most 8 groups, or nothing."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    return nn.Identity()


class PlainNet(nn.Module):
    """Stages of `depth` 3×3 convolutions; every stage after the first starts with stride 2; average pool and a
    classifier."""

    def __init__(self, spec: Spec, widths: tuple[int, ...], depth: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = spec.channels
        for stage, width in enumerate(widths):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=norm == "none")
                layers += [conv, norm_layer(norm, width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        return self.head(self.dropout(self.features(x).mean((2, 3))))


@schema
class ConvNet:
    """widths: channels of each stage. depth: convolutions a stage. norm: after each. dropout: before the classifier,
    0–1.
    """

    widths: tuple[Annotated[int, Field(ge=1)], ...] = (16, 32, 64)
    depth: Annotated[int, Field(ge=1)] = 2
    norm: Norm = "batch"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __call__(self, spec: Spec) -> nn.Module:
        return PlainNet(spec, self.widths, self.depth, self.norm, self.dropout)

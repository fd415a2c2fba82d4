"""Fully connected layers, for rows of tables, which travel as images of one pixel."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec


class MLPNet(nn.Module):
    """A linear layer and ReLU for each width, then a linear classifier."""

    def __init__(self, spec: Spec, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        sizes = (spec.channels * spec.height * spec.width, *widths)
        layers: list[nn.Module] = []
        for before, width in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes)."""
        return self.head(self.features(x.flatten(1)))


@schema
class MLP:
    """widths: of the hidden layers. dropout: share of a hidden layer's values that are dropped in training."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __call__(self, spec: Spec) -> nn.Module:
        return MLPNet(spec, self.widths, self.dropout)

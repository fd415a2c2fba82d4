"""A network with two classifiers that trains in a moment, for the tests of distillation: packages=[helpers]."""

import torch
from torch import Tensor, nn

from paribus.core.build import schema
from paribus.core.protocols import Spec


class Net(nn.Module):
    def __init__(self, spec: Spec, pair: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(spec.channels, 16, 3), nn.ReLU(), nn.Flatten())
        size = 16 * (spec.height - 2) * (spec.width - 2)
        self.first, self.second = nn.Linear(size, spec.classes), nn.Linear(size, spec.classes)
        self.pair = pair

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.features(x)
        both = self.first(x), self.second(x)
        return both if self.training and self.pair else torch.stack(both).mean(0)


@schema
class TwoHeads:
    pair: bool = True

    def __call__(self, spec: Spec) -> nn.Module:
        return Net(spec, self.pair)

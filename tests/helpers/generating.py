"""A generator and a network of features that need no training, whose numbers are the same in any batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paribus.core.protocols import Spec
from paribus.core.streams import uniform


@dataclass(frozen=True)
class NoisyClasses:
    """A method whose image is the noise of its id, brighter the higher its class. shape: of an image. shift: of all its
    pixels, in steps of 8 bits. calls: the ids that were asked for, in order."""

    shape: tuple[int, int, int] = (3, 8, 8)
    classes: int = 10
    conditional: bool = False
    shift: float = 0.0
    calls: tuple[list[int], ...] = ()

    def prepare_eval(self) -> None: ...

    def sample(self, ids: Tensor, seed: int, classes: Tensor | None = None) -> Tensor:
        if self.calls:
            self.calls[0].extend(ids.tolist())
        c, h, w = self.shape
        levels = (uniform(seed, "helpers.generating", 0, ids, c * h * w) * 200).floor()
        if self.conditional:
            levels = levels + (ids % self.classes if classes is None else classes)[:, None]
        return ((levels + self.shift) / 255).view(len(ids), c, h, w)


class EverySeventeenth(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        picked = pixels.flatten(1)[:, ::17]
        return picked * (1 + torch.arange(picked.shape[1], device=pixels.device) / 7)


@dataclass(frozen=True)
class PickedFeatures:
    """A few pixels, scaled. made: a list that grows with each network made."""

    label: str = "every 17th pixel"
    made: tuple[list[Spec], ...] = ()

    def describe(self) -> str:
        return self.label

    def __call__(self, spec: Spec) -> nn.Module:
        if self.made:
            self.made[0].append(spec)
        return EverySeventeenth()

"""A network that predicts among some of its classes alone, for sets that have only those, as ImageNet-A and -R."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AmongClasses:
    """absent: (classes,) bool on the device, of which scores become so low that their probability is 0. It gives no
    network: what asks for more than predictions is refused."""

    network: Any
    absent: Tensor

    def prepare_eval(self) -> None:
        self.network.prepare_eval()

    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) scores."""
        scores = self.network.predict(inputs)
        # finite, so that a probability of 0 times its logarithm is 0
        return scores.masked_fill(self.absent, torch.finfo(scores.dtype).min / 4)

    @property
    def without_ema(self) -> "AmongClasses | None":
        plain = getattr(self.network, "without_ema", None)
        return None if plain is None else AmongClasses(plain, self.absent)

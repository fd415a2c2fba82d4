"""A network that predicts among some of its classes alone, for sets that have only those, as ImageNet-A and -R."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paribus.core.protocols import DataSets, DeviceContext


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


def predict_among(there: Sequence[int], network: Any, data: DataSets, place: DeviceContext, restrict: bool) -> Any:
    """The network; with `restrict` among these classes alone. Else it is told if the tree has not all of them."""
    absent = torch.ones(data.spec.classes, dtype=torch.bool)
    absent[list(there)] = False
    if restrict:
        return AmongClasses(network, absent.to(place.device))
    if there and absent.any() and place.rank == 0:
        print(
            f"warning: data.root: all {data.spec.classes:,} classes can be predicted; --tree-classes leaves out those "
            "without a folder, as is usual for ImageNet-A and -R",
            file=sys.stderr,
        )
    return network

"""Which samples of other processes a step will ask for, before there is a batch.

A transform that mixes samples draws its partners from a stream of the step alone, so the host knows them ahead:
a loader that decodes images has its workers decode them together with this process's own share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paribus.core.progress import Progress
from paribus.core.protocols import HasPartners


@dataclass(frozen=True)
class PartnerPlan:
    """What a recipe's transforms ask for in the steps of a run. Workers may get it by pickle.

    transforms: in order, those that tell their partners; what others ask for, a loader makes when they do. size: of the
    global batch.
    """

    transforms: Sequence[HasPartners]
    size: int
    total: int
    seed: int
    steps_per_epoch: int

    def __call__(self, step: int, positions: Tensor) -> Tensor:
        """The positions, in increasing order and without these ones, that a process with these (on the CPU) needs too.

        A transform asks for partners as all transforms before it make them, and those may have partners of their own.
        """
        at = Progress(step, self.total, self.seed, self.steps_per_epoch)
        needed = torch.zeros(self.size, dtype=torch.bool)
        needed[positions] = True
        for transform in reversed(self.transforms):
            if (partners := transform.partners(at, self.size)) is not None:
                needed[partners[needed]] = True
        needed[positions] = False
        return torch.nonzero(needed).flatten()

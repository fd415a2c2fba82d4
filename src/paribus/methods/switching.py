"""One of two transforms for each batch, at random: combines mixing transforms that exclude each other.

DeiT (Touvron et al. 2021, arXiv 2012.12877, table 9) mixes every batch, by Mixup or by CutMix with even chances; timm's
Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5) is Switch(first=Mixup(alpha=0.8), second=CutMix(alpha=1.0)).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.progress import Progress
from paribus.core.protocols import Checks, HasPartners, Spec, Transform
from paribus.core.streams import stream


@schema
class Switch:
    """first, second: transforms, of which each batch gets one. share: the chance of `second`, 0–1; 0 is exactly `first`
    alone and 1 exactly `second`, bit for bit.

    name: of this switch, and so of its stream; two switches with the same name choose alike.
    """

    first: Annotated[Transform, matches_signature(Transform)]
    second: Annotated[Transform, matches_signature(Transform)]
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    name: Annotated[str, Field(min_length=1)] = "mixing"

    def choose(self, at: Progress) -> Transform:
        """The transform of this step, the same on every rank. The other one draws nothing."""
        drawn = torch.rand((), generator=stream(at.seed, f"switch.{self.name}", at.step), dtype=torch.float64)
        return self.second if float(drawn) < self.share else self.first  # drawn on the CPU: no wait for the device

    def __call__(self, batch: Batch, at: Progress) -> Batch:
        return self.choose(at)(batch, at)

    def partners(self, at: Progress, n: int) -> Tensor | None:
        """Those of this step's transform; None if it does not tell."""
        chosen = self.choose(at)
        return chosen.partners(at, n) if isinstance(chosen, HasPartners) else None

    def check(self, spec: Spec) -> None:
        for transform in (self.first, self.second):
            if isinstance(transform, Checks):
                transform.check(spec)

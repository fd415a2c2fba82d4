"""Penalties on how steep the discriminator is: R1 at real images, the gradient penalty between real and generated ones.

FSMR and GGDR are penalties too and have files of their own in techniques/. All fit the slot `method.penalties`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.generation import JudgedBatch
from paribus.core.progress import Progress
from paribus.core.streams import uniform


def squared_gradients(scores: Tensor, images: Tensor) -> Tensor:
    """(n,): ‖∇ D(x)‖² for scores (n,) of images (n, c, h, w), to be differentiated again. Each score has to be of its
    own image alone."""
    (gradients,) = torch.autograd.grad(scores.float().sum(), images, create_graph=True)
    return gradients.flatten(1).square().sum(1)


@schema
class R1:
    """Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406: γ/2 · E ‖∇ D(x)‖² at real images.

    gamma: γ. every: in each k-th step alone, k times as strong (Karras et al. 2020, arXiv 1912.04958).
    """

    gamma: Annotated[float, Field(ge=0)] = 10.0
    every: Annotated[int, Field(ge=1)] = 1

    @property
    def differentiates(self) -> bool:
        return True

    def draw(self, batch: Batch, at: Progress) -> Mapping[str, Any]:
        return {"due": at.step % self.every == 0}

    def __call__(self, judged: JudgedBatch, drawn: Mapping[str, Any]) -> Tensor:
        if not drawn["due"]:
            return judged.real_judgement.scores.new_zeros(())
        steepness = squared_gradients(judged.real_judgement.scores, judged.real).mean()
        return self.gamma / 2 * self.every * steepness


@schema
class GradientPenalty:
    """Gulrajani et al. 2017, arXiv 1704.00028: λ E (‖∇ D(x̂)‖ − 1)² at x̂ = ε x + (1 − ε) G(z), ε uniform in [0, 1) for
    each image. A judgement of its own, so a discriminator with BatchNorm takes in one batch more.

    weight: λ.
    """

    weight: Annotated[float, Field(ge=0)] = 10.0

    @property
    def differentiates(self) -> bool:
        return True

    def draw(self, batch: Batch, at: Progress) -> Mapping[str, Any]:
        # by place, since an image may be in two steps of an epoch's end and start
        return {"share": uniform(at.seed, "gradient_penalty.share", at.step, batch.positions, 1)}

    def __call__(self, judged: JudgedBatch, drawn: Mapping[str, Any]) -> Tensor:
        share = drawn["share"][:, :, None, None].to(judged.real.dtype)
        between = (share * judged.real.detach() + (1 - share) * judged.fake).requires_grad_()
        scores = judged.discriminator(between, judged.classes).scores
        lengths = (squared_gradients(scores, between) + 1e-12).sqrt()  # a root has no gradient at 0
        return self.weight * (lengths - 1).square().mean()

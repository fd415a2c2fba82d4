"""FSMR: the discriminator should judge an image alike when its features have other images' statistics.

Kim, Choi & Uh, "Feature Statistics Mixing Regularization for Generative Adversarial Networks", CVPR 2022,
arXiv 2112.04120.

    FSM(x, y) = α x + (1 − α) [σ_y (x − μ_x) / σ_x + μ_y]        R = E (D(x) − D_FSM(x))²        α ~ U[0, 1)

μ and σ are of one image and channel, over all places (σ² with 1e-5 added). D_FSM applies FSM behind every convolution,
before the activation; y is the same features of another image of the batch. A discriminator that judges by such
statistics, which carry an image's style (colours, contrast), pays for it.

What it changes   a term in the discriminator's loss; the generator's is as it was. Fits every recipe with
                  method=adversarial, beside other penalties, losses and optimizers.
Hyperparameters   weight = 0.05 is what the authors' instructions give for StyleGAN2; their code's default is 1.
As the authors    real images alone; one α and one shuffle of the batch in a step, the same in all layers. σ² divides by
                  the number of places, as in instance normalisation; by one less would be the same but for 1e-5, since
                  deviations count by their ratio alone.
Deviations        written from the paper's maths alone: what else their code does is not known here. They mix behind
                  the very first convolution for images of 32 pixels alone, here it is always so. The shuffle is of the
                  global batch: processes exchange means and deviations, with gradients. Residual shortcuts are not
                  mixed. fakes = true, which the authors name as an option, adds the same term at generated images.
Controls          partner = itself: each image's own statistics. FSM is then x itself, not merely near it (its factor is
                  computed as 1, its shift as 0), so R and its gradients are 0: plain training, to the bit unless
                  adding zeros changes the order of other sums. What it can show is FSMR's price alone. partner =
                  by_channel: each channel's statistics come from another image, so that every one of them is as in the
                  data and no image's style is whole. Where it does what FSMR does, style is not the reason.
Cost              one more forward and backward of the discriminator at the real images, in each of its steps, and means
                  and variances of all its maps.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.generation import JudgedBatch
from paribus.core.progress import Progress
from paribus.core.streams import permutation, uniform

_EPS = 1e-5
Partner = Literal["shuffled", "by_channel", "itself"]


def measure_statistics(maps: Tensor) -> Tensor:
    """(n, c, h, w) to (n, 2, c): mean and standard deviation over places, in float32 at least."""
    variance, mean = torch.var_mean(_widen(maps), (2, 3), correction=0)
    return torch.stack((mean, (variance + _EPS).sqrt()), 1)


def mix_statistics(maps: Tensor, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """FSM: (n, c, h, w) to as many. own, other: (n, 2, c) statistics of these maps and of their partners. share: α.

    Written as a factor and a shift for each map: with other = own these are 1 and 0, exactly.
    """
    ratio = other[:, 1] / own[:, 1]
    factor = share + (1 - share) * ratio
    shift = (1 - share) * (other[:, 0] - own[:, 0] * ratio)
    return maps * factor[:, :, None, None].to(maps.dtype) + shift[:, :, None, None].to(maps.dtype)


def choose_statistics(everyone: Tensor, partner: Partner, order: Tensor, positions: Tensor) -> Tensor:
    """(n, 2, c): the statistics that the images at these positions take. everyone: (size, 2, c), of the global batch.
    order: (size,) a permutation of it."""
    if partner == "itself":
        return everyone[positions]
    if partner == "shuffled":
        return everyone[order[positions]]
    # images on a circle in this order: channel k takes the (k + 1)-th neighbour's, so of each channel every image's
    # statistics are taken once
    size, channels = everyone.shape[0], everyone.shape[2]
    steps = torch.arange(channels, device=order.device) + 1
    neighbours = order[(order.argsort()[positions][:, None] + steps) % size]
    return everyone.gather(0, neighbours[:, None].expand(-1, 2, -1))


@schema
class FSMR:
    """weight: of the term; 0: plain training. partner: whose statistics: shuffled, another image's; controls:
    by_channel, for each channel another image's; itself, which leaves images as they are. fakes: generated images
    too."""

    weight: Annotated[float, Field(ge=0)] = 0.05
    partner: Partner = "shuffled"
    fakes: bool = False

    @property
    def differentiates(self) -> bool:
        return False

    def draw(self, batch: Batch, at: Progress) -> Mapping[str, Any]:
        """positions: (n,). order: (size,). share: (2,), of the real and of the generated images."""
        device = batch.positions.device
        return {
            "positions": batch.positions,
            "order": permutation(at.seed, "fsmr.partner", at.step, batch.size, device),
            "share": uniform(at.seed, "fsmr.share", at.step, torch.arange(2, device=device), 1)[:, 0],
        }

    def __call__(self, judged: JudgedBatch, drawn: Mapping[str, Any]) -> Tensor:
        if not self.weight:
            return judged.real_judgement.scores.new_zeros(())
        shown = [(judged.real.detach(), judged.real_judgement.scores)]
        if self.fakes:
            shown.append((judged.fake, judged.fake_judgement.scores))
        terms = [
            self._judge_again(judged, images, scores, drawn, drawn["share"][k])
            for k, (images, scores) in enumerate(shown)
        ]
        return self.weight * torch.stack(terms).sum()

    def _judge_again(
        self, judged: JudgedBatch, images: Tensor, scores: Tensor, drawn: Mapping[str, Any], share: Tensor
    ) -> Tensor:
        """Mean (D − D_FSM)², a scalar."""

        def change(maps: Tensor, layer: int) -> Tensor:
            own = measure_statistics(maps)
            other = choose_statistics(judged.gathered(own), self.partner, drawn["order"], drawn["positions"])
            return mix_statistics(maps, own, other, share.to(own.dtype))

        mixed = judged.discriminator(images, judged.classes, change).scores
        return (_widen(scores) - _widen(mixed)).square().mean()


def _widen(values: Tensor) -> Tensor:
    return values.float() if values.dtype.itemsize < 4 else values

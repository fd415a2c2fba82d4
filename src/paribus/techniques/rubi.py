"""RUBi: what a biased network already says is masked in, so that the wanted network need not learn it.

Cadene, Dancette, Ben-younes, Cord & Parikh, "RUBi: Reducing Unimodal Biases for Visual Question Answering", NeurIPS
2019, arXiv 1906.10169, equations 2 to 5; here between images, as in ReBias's comparison (arXiv 1910.02806).

    L = CE(f ⊙ σ(z)) + CE(c(z))        z: logits of the biased network, c: one more linear layer

Where z is sure of the class, the masked logits fit without f, and f gets little gradient from the sample.

What it changes   the step: each batch trains the biased network with its layer c, then f. It takes the place of the
                  supervised method. f alone predicts. No bias label is used.
Hyperparameters   none but the biased network; on Biased MNIST 1×1 convolutions.
As the authors    the mask, both losses with equal weight, f alone in evaluation.
Deviations        c is trained. In ReBias's comparison it is not: their criterion keeps it where no optimizer finds it,
                  so their figures of RUBi are of a weaker method. Each network's gradient is that of L with the other
                  network as it was before the step, as of one optimizer on both.
Cost              a second network, forward and back once a step.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Objective, Slots, Spec
from paribus.methods.biased_pair import Pair, PairTraining
from paribus.methods.distilled import FixedOutput


def mask_logits(wanted: Tensor, biased: Tensor) -> Tensor:
    """(n, classes) each: f ⊙ σ(z)."""
    return wanted * torch.sigmoid(biased)


class Masked(NamedTuple):
    """mask: z, (n, classes). scores: c(z), (n, classes)."""

    mask: Tensor
    scores: Tensor


class MaskNetwork(nn.Module):
    """The biased network and the layer c on its logits."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classifier = nn.Linear(classes, classes)

    def forward(self, inputs: Tensor) -> Masked:
        mask = self.network(inputs)
        return Masked(mask, self.classifier(mask))


class RubiLoss:
    """Both losses of one step."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, pair: Pair, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        wanted, masks = pair.wanted.scores, list[Tensor]()

        def loss_of_biased(whole: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            mask, scores = pair.biased(whole.inputs)
            masks.append(mask.detach())
            fused, _ = self._objective(FixedOutput(mask_logits(wanted.detach(), mask)), whole, at)
            own, _ = self._objective(FixedOutput(scores), whole, at)
            return fused + own, {"train/loss_biased": own}

        of_biased = pair.train_biased(loss_of_biased)
        loss, metrics = self._objective(FixedOutput(mask_logits(wanted, masks[0])), batch, at)
        return loss, {**metrics, "train/loss_biased": of_biased["train/loss_biased"]}


@dataclass(frozen=True)
class _MaskNetworkFactory:
    biased: ModelFactory

    def __call__(self, spec: Spec) -> nn.Module:
        return MaskNetwork(self.biased(spec), spec.classes)


@schema
class Rubi:
    """biased: the network that can only see the bias."""

    biased: ModelFactory

    @property
    def couples_samples(self) -> bool:
        return True  # not its loss, but the two networks' steps take a batch whole

    def __call__(self, slots: Slots, workshop: BuildContext) -> PairTraining:
        made = _MaskNetworkFactory(self.biased)
        return PairTraining(slots, workshop, made, RubiLoss(slots.objective), view=lambda network: network)

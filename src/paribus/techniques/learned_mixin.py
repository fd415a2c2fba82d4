"""Learned-Mixin: the wanted network is trained in an ensemble with a biased one, and predicts alone.

Clark, Yatskar & Zettlemoyer, "Don't Take the Easy Way Out: Ensemble Based Methods for Avoiding Known Dataset Biases",
EMNLP 2019, arXiv 1909.03683, section 3.2.3 and 3.2.4.

    p̂ = softmax(log p + s(h) · log b)      s(h) = softplus(w·h + v)      L = CE(p̂) + entropy · H(softmax(s(h) · log b))

p is the wanted network's distribution, h its features, b the biased network's distribution, s how far b is to be
believed for this sample.

What it changes   the step: each batch trains the biased network and s, then the wanted network. It takes the place of
                  the supervised method. The wanted network alone predicts. No bias label is used.
Hyperparameters   entropy = 0 (Learned-Mixin); above 0 it is the paper's "+H", which keeps s from falling to 0.
As the authors    the ensemble in log space, s from the features, a softplus, the entropy of what b adds.
Deviations        the biased network trains beside the wanted one, on its own cross entropy; the paper's is trained
                  before and fixed. s is trained; in ReBias's comparison (arXiv 1910.02806) it is not, since their
                  criterion keeps it where no optimizer finds it, so their figures are of a weaker method.
Cost              a second network, forward and back once a step.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Objective, Slots, Spec
from paribus.methods.biased_pair import Ended, Pair, PairTraining, WithFeatures
from paribus.methods.distilled import FixedOutput


def mix_logits(wanted: Tensor, biased: Tensor, trust: Tensor) -> Tensor:
    """(n, classes) logits of each and (n, 1) trust to log p + s · log b, which a softmax turns into p̂."""
    return F.log_softmax(wanted, 1) + trust * F.log_softmax(biased, 1)


def entropy_of_bias(biased: Tensor, trust: Tensor) -> Tensor:
    """H(softmax(s · log b)), mean over samples, in nats: a scalar."""
    log_q = F.log_softmax(trust * F.log_softmax(biased, 1), 1)
    return -(log_q.exp() * log_q).sum(1).mean()


class Mixed(NamedTuple):
    """scores: of the biased network, (n, classes). trust: s, (n, 1)."""

    scores: Tensor
    trust: Tensor


class MixNetwork(nn.Module):
    """The biased network, and s, which is given the wanted network's features."""

    def __init__(self, network: nn.Module, features: int) -> None:
        super().__init__()
        self.network = network
        self.trust = nn.Linear(features, 1)

    def forward(self, inputs: Tensor, features: Tensor) -> Mixed:
        return Mixed(self.network(inputs), F.softplus(self.trust(features)))


class LearnedMixinLoss:
    """Both losses of one step. entropy: weight of H."""

    def __init__(self, objective: Objective, entropy: float) -> None:
        self._objective, self._entropy = objective, entropy

    def __call__(self, pair: Pair, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        wanted, features = pair.wanted
        kept = list[Mixed]()

        def loss_of_biased(whole: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            scores, trust = pair.biased(whole.inputs, features.detach())
            kept.append(Mixed(scores.detach(), trust.detach()))
            own, _ = self._objective(FixedOutput(scores), whole, at)
            mixed = self._mix(wanted.detach(), kept[0].scores, trust, whole, at)
            return own + mixed[0], {"train/loss_biased": own, "train/trust": trust.mean()}

        of_biased = pair.train_biased(loss_of_biased)
        # s is a function of the features, but they are not to learn how to be believed less
        loss, metrics = self._mix(wanted, *kept[0], batch, at)
        told = {name: of_biased[name] for name in ("train/loss_biased", "train/trust")}
        return loss, {**metrics, **told}

    def _mix(
        self, wanted: Tensor, biased: Tensor, trust: Tensor, batch: Batch, at: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = self._objective(FixedOutput(mix_logits(wanted, biased, trust)), batch, at)
        return (loss + self._entropy * entropy_of_bias(biased, trust) if self._entropy else loss), metrics


@dataclass(frozen=True)
class _MixNetworkFactory:
    biased: ModelFactory
    features: int

    def __call__(self, spec: Spec) -> nn.Module:
        return MixNetwork(self.biased(spec), self.features)


@schema
class LearnedMixin:
    """biased: the network that can only see the bias. entropy: weight of the entropy of what it adds, 0 for none."""

    biased: ModelFactory
    entropy: Annotated[float, Field(ge=0)] = 0.0

    @property
    def couples_samples(self) -> bool:
        return True  # not its loss, but the two networks' steps take a batch whole

    def __call__(self, slots: Slots, workshop: BuildContext) -> PairTraining:
        made = _MixNetworkFactory(self.biased, _count_features(slots.model, workshop.spec))
        loss = LearnedMixinLoss(slots.objective, self.entropy)
        return PairTraining(slots, workshop, made, loss, view=lambda network: network)


def _count_features(model: ModelFactory, spec: Spec) -> int:
    """How many features the wanted network's classifier is given. A network is made to find out, and thrown away."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = WithFeatures(model(spec)).eval()
        ended: Ended = network(torch.zeros(1, spec.channels, spec.height, spec.width))
    return ended.features.shape[1]

"""CALM: where the cue lies is a latent variable of the classifier, so that the attribution map is a probability.

Kim, Choe, Akata & Oh, "Keep CALM and Improve Visual Feature Attribution", ICCV 2021, arXiv 2106.07861.

    p(y, z | x) = p(y | x, z) p(z | x)        p(y | x) = Σ_z p(y, z | x)
    p(y | x, z) = softmax over classes of the class map at z, the classifier applied to the features of each place
    p(z | x)    = a_z / Σ a                   a = ReLU(a 1×1 convolution of the features to one channel)
    ML: −log Σ_z p(y, z | x)                  EM: −Σ_z sg[p(z | x, y)] log p(y, z | x)        sg: seen as a constant

z is a cell of the last feature maps. The map of class y is p(y, z | x), which no normalisation has to make comparable.

What it changes   the network's head and the loss. It takes the place of the supervised method, and of the recipe's
                  loss. In training the network gives log p(y, z | x), in evaluation log p(y | x), so that accuracy and
                  the other evaluators work as they are. Fits networks that end in a global average and a linear layer.
Hyperparameters   the paper's: a ResNet-50 pretrained on ImageNet, its last strides removed (28×28 cells of 224 pixels),
                  SGD .01, ten times that in new layers, weight decay 1e-4, batches of 64, 40 epochs. train_by = em,
                  with which its figures are better.
As the authors    the model, both losses, and the joint probability as the map. detach = true has the denominator Σ a as
                  a constant, as in their code.
Deviations        detach = false, the loss's own gradient, is the default here. A constant denominator leaves the scale
                  of a free: steps make it larger wherever the class is likely, and nothing makes it smaller. Either way
                  the two losses have one gradient at the same weights (∇ Σ_z sg[q_z] log f_z = ∇ log Σ_z f_z where q =
                  f / Σ f), in the authors' code too but for its nudges, so what ML and EM differ by in their figures
                  does not come from the losses. Where a is 0 in the whole image p(z | x) is uniform; in their code the
                  outputs are NaN. They add 1e-8 to a p(z | x) below that; here log 0 is −∞, without a gradient. The
                  attention begins with a = 1 everywhere, theirs at random, where some images may have none. The
                  classifier starts as the plain network's own, theirs anew. New layers have the recipe's learning rate,
                  since optimizers here have one for all. Targets may be mixed: each class's loss then counts by its
                  weight. plain_epochs is ours: pretraining within the run.
Cost              the 1×1 convolutions, and a softmax over classes in each cell.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import matches_signature, schema
from paribus.core.capabilities import watch_ending
from paribus.core.errors import ConfigError
from paribus.core.meta import to_meta
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Objective, Slots, Spec, StartsFromFile
from paribus.methods.distilled import FixedOutput
from paribus.methods.objectives import CrossEntropy
from paribus.methods.supervised import SupervisedTraining
from paribus.methods.trained import make_trained


def log_prior(attention: Tensor, detach: bool = False) -> Tensor:
    """log p(z | x), (n, h, w), of attention (n, h, w) of 0 or more; uniform, with no gradient, where all of it is 0.

    detach: the denominator is a constant.
    """
    total = attention.sum((1, 2), keepdim=True)
    is_dead, is_seen = total <= 0, attention > 0
    total = torch.where(is_dead, 1.0, total.detach() if detach else total)
    # the 1 keeps log's gradient, 1 / 0, out: 0 times infinity would be NaN
    log_share = torch.where(is_seen, attention, 1.0).log() - total.log()
    cells = attention.shape[1] * attention.shape[2]
    return torch.where(is_dead, -math.log(cells), torch.where(is_seen, log_share, -torch.inf))


def log_joint(class_maps: Tensor, attention: Tensor, detach: bool = False) -> Tensor:
    """log p(y, z | x), (n, classes, h, w). class_maps: (n, classes, h, w) logits. attention, detach: of `log_prior`."""
    return class_maps.log_softmax(1) + log_prior(attention, detach)[:, None]


def log_likelihood(joint: Tensor) -> Tensor:
    """log p(y | x) = log Σ_z p(y, z | x): (..., h, w) to (...)."""
    return joint.flatten(-2).logsumexp(-1)


def expected_log_joint(joint: Tensor) -> Tensor:
    """Σ_z sg[p(z | x, y)] log p(y, z | x): (..., h, w) to (...)."""
    posterior = (joint - log_likelihood(joint)[..., None, None]).exp().detach()
    # a cell of probability 0 has no say, where 0 times −∞ would be NaN
    return (posterior * torch.where(joint.isinf(), 0.0, joint)).sum((-2, -1))


class Located(NamedTuple):
    """joint: (n, classes, h, w), log p(y, z | x). plain: (n, classes) logits of the network without CALM. attention: a,
    (n, h, w)."""

    joint: Tensor
    plain: Tensor
    attention: Tensor


class CalmNetwork(nn.Module):
    """A network that ends in a global average and a linear layer, with p(y, z | x) in their place. Its linear layer,
    applied to each cell, gives the class maps."""

    added_parts = ("attention",)

    def __init__(self, network: nn.Module, features: int, detach: bool) -> None:
        """features: channels of the network's last maps."""
        super().__init__()
        self.network = network
        self.attention = nn.Conv2d(features, 1, 1)
        nn.init.zeros_(self.attention.weight)
        nn.init.ones_(self.attention.bias)  # pyright: ignore[reportArgumentType]
        self._detach = detach

    def locate(self, inputs: Tensor) -> Located:
        plain, ending = watch_ending(self.network, inputs)
        if ending is None or ending.pooled is None:
            raise _misfit(self.network)
        class_maps = F.conv2d(ending.pooled, ending.weight[:, :, None, None], ending.bias)
        attention = F.relu(self.attention(ending.pooled))[:, 0]
        # half precision has too few digits for logarithms of sums
        maps, a = (x.float() if x.dtype.itemsize < 4 else x for x in (class_maps, attention))
        return Located(log_joint(maps, a, self._detach), plain, a)

    def forward(self, inputs: Tensor) -> Located | Tensor:
        """(n, c, h, w) to log p(y | x), (n, classes); in training to `Located`."""
        located = self.locate(inputs)
        return located if self.training else log_likelihood(located.joint)

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """p(y, z | x), (n, h, w), of one class of each image."""
        return _select(self.locate(inputs).joint, classes).exp()


def _select(joint: Tensor, classes: Tensor) -> Tensor:
    """(n, k, h, w) to (n, h, w): of each image its class. classes: (n,) int64."""
    return joint.gather(1, classes[:, None, None, None].expand(-1, 1, *joint.shape[2:]))[:, 0]


def _misfit(network: nn.Module) -> ConfigError:
    return ConfigError(
        f"technique=calm: {type(network).__name__} does not end in a global average pool and one linear layer, with "
        "nothing between them (dropout is something), which CALM takes the place of"
    )


@schema
class CalmModel:
    """network: what makes the plain network. detach: as in Calm."""

    network: Annotated[ModelFactory, matches_signature(ModelFactory)]
    detach: bool = False

    def __call__(self, spec: Spec) -> CalmNetwork:
        """Raises ConfigError for a network that ends otherwise."""
        network = self.network(spec)
        images = torch.empty(2, spec.channels, spec.height, spec.width, device="meta")
        with torch.no_grad():  # in training mode, since dropout is seen there alone
            _, ending = watch_ending(to_meta(network).train(), images)
        if ending is None or ending.pooled is None:
            raise _misfit(network)
        return CalmNetwork(network, ending.pooled.shape[1], self.detach)

    def without_file(self) -> ModelFactory:
        inner = self.network
        return replace(self, network=inner.without_file()) if isinstance(inner, StartsFromFile) else self


class CalmLoss:
    """reduce: `log_likelihood` or `expected_log_joint`. plain: the loss of the first epochs, of the plain network."""

    def __init__(self, reduce: Callable[[Tensor], Tensor], plain: Objective, plain_epochs: int) -> None:
        self._reduce, self._plain, self._plain_epochs = reduce, plain, plain_epochs

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        located: Located = model(batch.inputs)
        if at.epoch < self._plain_epochs:
            loss, metrics = self._plain(FixedOutput(located.plain), batch, at)
            return loss + 0.0 * located.attention.sum(), metrics  # DDP waits for a gradient of every weight
        targets = batch.targets
        if targets.ndim == 1:
            return -self._reduce(_select(located.joint, targets)).mean(), {}
        return -(targets * self._reduce(located.joint)).sum(1).mean(), {}


@schema
class Calm:
    """train_by: em, by expectation-maximisation, or ml, by the marginal likelihood: other losses of the same gradient.
    detach: the denominator of p(z | x) is a constant, as in the authors' code; false: it has its gradient.
    plain_epochs: so many epochs of plain training come first, with the recipe's loss on the plain network."""

    train_by: Literal["em", "ml"] = "em"
    detach: bool = False
    plain_epochs: Annotated[int, Field(ge=0)] = 0

    def network_factory(self, model: ModelFactory) -> ModelFactory:
        return CalmModel(network=model, detach=self.detach)

    def __call__(self, slots: Slots, workshop: BuildContext) -> SupervisedTraining:
        """Raises ConfigError for an objective that has more to it than hard or mixed targets, and where the network
        does not fit."""
        if workshop.trains and slots.objective != CrossEntropy():
            raise ConfigError(
                "technique=calm: it has a loss of its own, which knows no smoothing, class weights or other kind of "
                "loss; found an objective that differs from objective=cross_entropy objective.smoothing=0"
            )
        reduce = expected_log_joint if self.train_by == "em" else log_likelihood
        loss = CalmLoss(reduce, slots.objective, self.plain_epochs)
        trained = make_trained(slots, workshop, model=self.network_factory(slots.model))
        return SupervisedTraining(replace(slots, objective=loss), workshop, trained=trained)

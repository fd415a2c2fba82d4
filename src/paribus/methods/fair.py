"""Supervised training that is to treat groups alike: the group of each sample is known or completed, and a fair learner
weighs samples by it, or adds a penalty.

What is minimised is the recipe's objective. A weight multiplies the gradient that comes back to a sample's scores, so
it works with every objective that is a mean over samples, and the loss that is logged is the unweighted one of all
samples, which arms can be compared by.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, CouplesSamples, ParameterGroup, Slots
from paribus.methods.biased_pair import WithFeatures
from paribus.methods.completion import GROUP, Completion, DrawnGroups, to_class_ids
from paribus.methods.distilled import FixedOutput
from paribus.methods.evaluated import Evaluated, PlainNetwork
from paribus.methods.fair_learners import FairLearner, LabelBiasCorrection
from paribus.methods.trained import Trained, make_trained

# further facts of a batch, so that they go with its samples when it is split
_GROUPS, _KEPT, _WEIGHTS = "fair.groups", "fair.kept", "fair.weights"


class _WeighGradient(torch.autograd.Function):
    """The scores as they are; gradients of each sample's times its weight."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return scores.view_as(scores)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        return gradients[0] * weights[:, None].to(gradients[0].dtype), None


def weigh_gradient(scores: Tensor, weights: Tensor) -> Tensor:
    """(n, classes) scores, unchanged, whose gradients are multiplied by weights, (n,)."""
    return _WeighGradient.apply(scores, weights)  # pyright: ignore[reportReturnType]


class FairTraining:
    """One network that predicts; the completion may have one of its own."""

    def __init__(self, slots: Slots, workshop: BuildContext, settings: "Fair") -> None:
        self._slots, self._settings, self._sync = slots, settings, workshop.sync
        self._learner = settings.learner.make(workshop, settings.groups)
        self._trained = (
            make_trained(slots, workshop, view=WithFeatures)
            if settings.learner.needs_features
            else make_trained(slots, workshop)
        )
        self._completer = settings.completion.make(slots, workshop, settings.groups)
        self.model, self.optimizer = self._trained.network, self._trained.optimizer
        self._evaluated = Evaluated(self.model, slots.ema)
        self._is_checked = GROUP in workshop.largest  # by `Fair`, before anything was built

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """One optimizer step of each network. Nothing waits for the device; only of data that do not say how many
        groups they have, the first batch is looked at."""
        slots, trained, factor = self._slots, self._trained, self._slots.schedule(at)
        if not self._is_checked:
            check_groups(batch, self._settings.groups)
            self._is_checked = True
        if at.step and at.step % at.steps_per_epoch == 0:
            self._learner.end_round()
        completed = self._completer.complete(batch, at, factor)  # of samples as they are, before any is mixed
        trained.prepare_step(factor)
        for transform in slots.transforms:
            batch = transform(batch, at)
        weights = completed.weights * self._learner.weigh(batch.targets, completed.groups)
        more = {_GROUPS: completed.groups, _KEPT: completed.weights, _WEIGHTS: weights}
        batch = replace(batch, also={**batch.also, **more})
        metrics = trained.step(slots.update, lambda part: self._loss_of(part, at), batch)
        self._evaluated.update(at.step)
        return {**metrics, **completed.metrics, **self._learner.describe(), "lr": trained.lrs[0] * factor}

    def _loss_of(self, part: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = self._trained.in_step(part.inputs)
        scores, features = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        weighed = weigh_gradient(scores, part.also[_WEIGHTS])
        loss, metrics = self._slots.objective(FixedOutput(weighed), part, at)
        facts = to_class_ids(part.targets), part.also[_GROUPS], part.also[_KEPT]
        self._learner.observe(scores.detach(), *facts)
        penalty = self._learner.penalise(features, *facts)
        return loss if penalty is None else loss + penalty, metrics

    def parts(self) -> dict[str, Trained]:
        return {"": self._trained, **self._completer.parts()}

    @property
    def groups(self) -> list[ParameterGroup]:
        return list(self._trained.groups)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Of all networks."""
        for part in self.parts().values():
            yield from part.network.parameters()

    @property
    def eval_model(self) -> nn.Module:
        return self._evaluated.model

    @property
    def without_ema(self) -> PlainNetwork | None:
        return self._evaluated.without_ema

    def prepare_eval(self) -> None:
        self._evaluated.prepare(self._sync)
        self._completer.prepare_eval()

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits."""
        return self.eval_model(inputs)

    def state_dict(self) -> dict[str, Any]:
        networks = {name: part.state_dict() for name, part in self._completer.parts().items()}
        own = {"learner": self._learner.state_dict(), "completion": self._completer.state_dict()}
        return {**self._trained.state_dict(), **networks, **self._evaluated.state_dict(), "fair": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._trained.load_state_dict(state)
        for name, part in self._completer.parts().items():
            part.load_state_dict(state[name])
        self._learner.load_state_dict(state["fair"]["learner"])
        self._completer.load_state_dict(state["fair"]["completion"])
        self._evaluated.load_state_dict(state)


def check_groups(batch: Batch, groups: int) -> None:
    """Raises ConfigError unless the samples have groups from -1 (unknown) to groups - 1. Waits for the device."""
    if GROUP not in batch.also:
        raise ConfigError(_without_groups(tuple(batch.also)))
    if len(given := batch.also[GROUP]):
        _check_largest(int(given.max().item()), groups)


def _check_largest(largest: int, groups: int) -> None:
    if largest >= groups:
        raise ConfigError(
            f"method.groups: found {groups}; the data has a group {largest}, and they count from 0: set "
            f"method.groups={largest + 1}, if that many are meant"
        )


def _without_groups(facts: tuple[str, ...]) -> str:
    return (
        f"method=fair: needs training samples with a group (Batch.also has {', '.join(facts) or 'nothing'}, not "
        f"{GROUP}); data=adult, data=compas, data=biased_mnist and data=synthetic data.groups=2 have it, and a tree of "
        "your own with a facts.csv (docs/data.md)"
    )


@schema
class Fair:
    """learner: what is done with groups. completion: where the groups come from that nobody has annotated. groups: how
    many there are."""

    learner: FairLearner = LabelBiasCorrection()
    completion: Completion = DrawnGroups()
    groups: Annotated[int, Field(ge=2)] = 2

    @property
    def couples_samples(self) -> bool:
        return self.learner.couples_samples

    def __call__(self, slots: Slots, workshop: BuildContext) -> FairTraining:
        if workshop.trains and workshop.facts is not None and GROUP not in workshop.facts:
            raise ConfigError(_without_groups(workshop.facts))
        _check_largest(workshop.largest.get(GROUP, -1), self.groups)
        if isinstance(slots.objective, CouplesSamples) and slots.objective.couples_samples:
            raise ConfigError("objective: method=fair weighs samples, so it takes one that is a mean over them")
        return FairTraining(slots, workshop, self)

"""Two networks on the same batches: the one that is wanted, and one that is limited to a bias of the data.

What both learn is a `PairLoss`; the rest (steps, averages, checkpoints, evaluation) is the same for all methods of this
kind and is here. Each network has an optimizer of its own, made as the recipe says.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.capabilities import watch_ending
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, ParameterGroup, Slots
from paribus.methods.evaluated import Evaluated, PlainNetwork
from paribus.methods.trained import Trained, make_trained


class Ended(NamedTuple):
    """scores: (n, classes). features: (n, d), what the classifier is given."""

    scores: Tensor
    features: Tensor


class WithFeatures(nn.Module):
    """A network as one that also gives what its classifier is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Ended:
        scores, ending = watch_ending(self.network, inputs)
        if ending is None:
            raise ConfigError(
                f"method: {type(self.network).__name__} does not end in a linear layer, whose inputs are the features "
                "that this method needs"
            )
        return Ended(scores, ending.features)


class Pair(NamedTuple):
    """What a loss may do in a step. wanted: the wanted network on the batch, in training. biased: called with inputs.
    train_biased: one optimizer step of the biased network on a loss of a batch, whose metrics are returned."""

    wanted: Ended
    biased: Callable[..., Any]
    train_biased: Callable[[Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]], dict[str, Tensor]]


class PairLoss(Protocol):
    """The wanted network's loss, a scalar, and metrics. Before it returns it has trained the biased network."""

    def __call__(self, pair: Pair, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]: ...


class PairTraining:
    """The wanted network is the one that predicts, in the supervised method's place."""

    def __init__(
        self,
        slots: Slots,
        workshop: BuildContext,
        biased: ModelFactory,
        loss: PairLoss,
        view: Callable[[nn.Module], nn.Module] = WithFeatures,
    ) -> None:
        """biased: makes the biased network. view: what a step calls of it; the wanted one always gives `Ended`."""
        self._slots, self._loss, self._sync = slots, loss, workshop.sync
        self._wanted = make_trained(slots, workshop, view=WithFeatures)
        self._biased = make_trained(slots, workshop, "biased", biased, view=view)
        self.model, self.optimizer = self._wanted.network, self._wanted.optimizer
        self._evaluated = Evaluated(self.model, slots.ema)

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """A step of the biased network, then one of the wanted. Nothing here waits for the device."""
        slots, factor = self._slots, self._slots.schedule(at)
        for trained in (self._wanted, self._biased):
            trained.prepare_step(factor)
        for transform in slots.transforms:
            batch = transform(batch, at)
        metrics = self._wanted.step(slots.update, lambda whole: self._lose(whole, at), batch)
        self._evaluated.update(at.step)
        return {**metrics, "lr": self._wanted.lrs[0] * factor}

    def _lose(self, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        biased, update = self._biased, self._slots.update
        pair = Pair(
            self._wanted.in_step(batch.inputs), biased.in_step, lambda loss_of: biased.step(update, loss_of, batch)
        )
        return self._loss(pair, batch, at)

    def parts(self) -> dict[str, Trained]:
        return {"": self._wanted, "biased": self._biased}

    @property
    def groups(self) -> list[ParameterGroup]:
        return list(self._wanted.groups)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Of both networks."""
        yield from self.model.parameters()
        yield from self._biased.network.parameters()

    @property
    def eval_model(self) -> nn.Module:
        return self._evaluated.model

    @property
    def without_ema(self) -> PlainNetwork | None:
        return self._evaluated.without_ema

    def prepare_eval(self) -> None:
        self._evaluated.prepare(self._sync, (self._biased.network,))

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to the wanted network's (n, classes) logits."""
        return self.eval_model(inputs)

    def state_dict(self) -> dict[str, Any]:
        biased = {"biased": self._biased.state_dict()}
        return {**self._wanted.state_dict(), **biased, **self._evaluated.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._wanted.load_state_dict(state)
        self._biased.load_state_dict(state["biased"])
        self._evaluated.load_state_dict(state)

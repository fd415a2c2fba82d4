"""A network with what trains it. A method has one of them, or several, each with an optimizer of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.protocols import BuildContext, ModelFactory, OptimizerFactory, ParameterGroup, Slots, Update


@dataclass(frozen=True)
class Trained:
    """network: as it is evaluated. in_step: the same weights as a step calls them, compiled and distributed. groups:
    of the optimizer, in the order of its own. lrs: their learning rates where the schedule's factor is 1."""

    network: nn.Module
    in_step: nn.Module
    groups: tuple[ParameterGroup, ...]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    lrs: tuple[float, ...]

    def prepare_step(self, factor: float) -> None:
        """The learning rates of a step, `factor` times the recipe's, and training mode, which evaluation has left."""
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * factor
        if not self.network.training:  # walking all modules in each step would cost a small net 3 %
            self.in_step.train()

    def step(
        self, update: Update, loss_of: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]], batch: Batch
    ) -> dict[str, Tensor]:
        """One optimizer step on a batch. Returns its mean loss and metrics, still on the device."""
        return update(loss_of, batch, self.in_step, self.optimizer, self.scaler)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def make_trained(
    slots: Slots,
    workshop: BuildContext,
    name: str = "model",
    model: ModelFactory | None = None,
    optimizer: OptimizerFactory | None = None,
    view: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Trained:
    """A network, initialised from the stream of this name, and its optimizer. model, optimizer: None: the recipe's.
    view: from the network to what is called in a step, for one that is to give more than scores."""
    optimizer = optimizer or slots.optimizer
    network = workshop.make(model or slots.model, name)
    groups = workshop.groups(network, optimizer.decay)
    made = optimizer(groups)
    lrs = tuple(group["lr"] for group in made.param_groups)
    scaler = slots.update.scaler(workshop.place.device)
    return Trained(network, workshop.wrap(view(network)).train(), tuple(groups), made, scaler, lrs)

"""A method of two networks, as a user may write one: the second learns too, and with weight 0 the first is as trained
alone."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, Slots
from paribus.methods.trained import Trained, make_trained


class TwoNetworks:
    """The first follows the objective, plus `weight` times how far its scores are from the second's."""

    def __init__(self, slots: Slots, workshop: BuildContext, settings: "Pair") -> None:
        self._slots, self._settings = slots, settings
        self._pair = {"": make_trained(slots, workshop), "second": make_trained(slots, workshop, "second")}

    @property
    def eval_model(self) -> nn.Module:
        return self._pair[""].network

    def parts(self) -> Mapping[str, Trained]:
        return self._pair

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        first, second = self._pair[""], self._pair["second"]
        factor = self._slots.schedule(at)
        for part in self._pair.values():
            part.prepare_step(factor)

        def loss_of(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = self._slots.objective(first.in_step, part, at)
            if self._settings.weight:
                apart = F.mse_loss(first.in_step(part.inputs), second.in_step(part.inputs).detach())
                loss = loss + self._settings.weight * apart
            return loss * (1 + self._settings.shift), metrics

        metrics = first.step(self._slots.update, loss_of, batch)
        if not self._settings.idle:
            other = second.step(self._slots.update, lambda part: self._slots.objective(second.in_step, part, at), batch)
            metrics = {**metrics, "train/loss_second": other["train/loss"]}
        return {**metrics, "lr": first.lrs[0] * factor}

    def prepare_eval(self) -> None:
        for part in self._pair.values():
            part.network.eval()

    def predict(self, inputs: Tensor) -> Tensor:
        return self.eval_model(inputs).detach()

    def state_dict(self) -> dict[str, Any]:
        return {**self._pair[""].state_dict(), "second": self._pair["second"].state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pair[""].load_state_dict(state)
        self._pair["second"].load_state_dict(state["second"])


@schema
class Pair:
    """weight: of the second network's say in the first one's loss. shift: makes the first one's loss another. idle: the
    second is never trained."""

    weight: float = 0.5
    shift: float = 0.0
    idle: bool = False

    def __call__(self, slots: Slots, workshop: BuildContext) -> TwoNetworks:
        return TwoNetworks(slots, workshop, self)

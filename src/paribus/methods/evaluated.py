"""The network that a method evaluates and exports: the trained one or, with an EMA, the average of its weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.protocols import EMAFactory


@dataclass(frozen=True)
class PlainNetwork:
    """A network that predicts, for evaluators."""

    model: nn.Module

    @property
    def eval_model(self) -> nn.Module:
        return self.model

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits, in full precision whatever the training precision."""
        return self.model(inputs)


class Evaluated:
    """A trained network and, if there is an EMA, its average. A method has one of it for each network it evaluates."""

    def __init__(self, network: nn.Module, ema: EMAFactory) -> None:
        self._network, self._average = network, ema(network)

    @property
    def model(self) -> nn.Module:
        return self._network if self._average is None else self._average.module

    @property
    def without_ema(self) -> PlainNetwork | None:
        """What predicts with the latest weights, where evaluation uses averaged ones; else None."""
        return None if self._average is None else PlainNetwork(self._network)

    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 0."""
        if self._average is not None:
            self._average.update(self._network, step)

    def prepare(self, sync: Callable[[nn.Module], None], further: Iterable[nn.Module] = ()) -> None:
        """Evaluation mode, and BatchNorm statistics equal on all ranks; `further` networks too."""
        for model in {id(m): m for m in (self._network, self.model, *further)}.values():
            sync(model)
            model.eval()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has of the average: {} without one."""
        return {} if self._average is None else {"ema": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """state: of the whole method."""
        if self._average is not None:
            self._average.load_state_dict(state["ema"])

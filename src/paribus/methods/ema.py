"""An exponential moving average of the weights, to evaluate with.

torch's AveragedModel compares a device counter with zero at every update, which makes the host wait; this does not.
"""

import copy
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from paribus.core.build import schema


class WeightAverage:
    """average ← decay · average + (1 − decay) · weights. Buffers (BatchNorm statistics) are the model's latest."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for averaged, latest in zip(self.module.parameters(), model.parameters(), strict=True):
            averaged.lerp_(latest, 1 - self._decay)
        for averaged, latest in zip(self.module.buffers(), model.buffers(), strict=True):
            averaged.copy_(latest)

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)


@schema
class Ema:
    """decay: per step, 0–1; null for none. With it, evaluation and export use the averaged weights."""

    decay: Annotated[float, Field(ge=0, lt=1)] | None = None

    def __call__(self, model: nn.Module) -> WeightAverage | None:
        return None if self.decay is None else WeightAverage(model, self.decay)

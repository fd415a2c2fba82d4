"""An exponential moving average of the weights, to evaluate with.

torch's AveragedModel compares a device counter with zero at every update, which makes the host wait; this does not.
"""

# torch's operations on lists have no public names
# pyright: reportPrivateImportUsage=false

import copy
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.build import schema

Buffers = Literal["averaged", "latest"]


def decay_at(step: int, decay: float, warmup: bool) -> float:
    """The decay of the update after step `step` (from 0). With warm-up it grows as (1 + step) / (10 + step) up to
    `decay` (the rule of TensorFlow's ExponentialMovingAverage), so that the average spans the last tenth or so of what
    was trained and the initial weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


def _to_lists(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [averaged for averaged, _ in pairs], [latest for _, latest in pairs]


class WeightAverage:
    """average ← d · average + (1 − d) · weights, d from `decay_at`. Integer buffers are the model's latest; floating
    ones (BatchNorm's statistics) too where buffers="latest", else they are averaged as the weights are."""

    def __init__(self, model: nn.Module, decay: float, warmup: bool, buffers: Buffers) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay, self._warmup, self._buffers = decay, warmup, buffers

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model's weights after step `step`, counted from 0."""
        weight = 1 - decay_at(step, self._decay, self._warmup)
        pairs: list[tuple[Tensor, Tensor]] = list(zip(self.module.parameters(), model.parameters(), strict=True))
        copied: list[tuple[Tensor, Tensor]] = []
        for pair in zip(self.module.buffers(), model.buffers(), strict=True):
            is_averaged = self._buffers == "averaged" and pair[1].is_floating_point()
            (pairs if is_averaged else copied).append(pair)
        # on a GPU one launch for the whole list, not one a tensor
        if pairs:
            torch._foreach_lerp_(*_to_lists(pairs), weight)
        if copied:
            torch._foreach_copy_(*_to_lists(copied))

    def state_dict(self) -> dict[str, Any]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)


@schema
class Ema:
    """decay: per step, 0–1; null for none. With it, evaluation and export use the averaged weights, and evaluation adds
    the metrics of the network itself as `..._without_ema`.

    warmup: a smaller decay in the first steps. buffers: whether BatchNorm's statistics are averaged with the
    weights or are the latest network's, which do not fit averaged weights (experiments/LOG.md has the measurement).
    """

    decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    warmup: bool = True
    buffers: Buffers = "averaged"

    def __call__(self, model: nn.Module) -> WeightAverage | None:
        return None if self.decay is None else WeightAverage(model, self.decay, self.warmup, self.buffers)

    def share_of_initial_weights(self, steps: int) -> float:
        """The share, 0–1, that the initial weights have in the average after this many steps; 0 without an average."""
        if self.decay is None:
            return 0.0
        share = 1.0
        for step in range(steps):
            share *= decay_at(step, self.decay, self.warmup)
            if share < 1e-6:  # a long run is not walked to its end
                return 0.0
        return share

"""The inputs of all implementations of an optimizer: weights, gradients, and one regime of the projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from paribus.bench.techniques import optimizer_reference
from paribus.bench.techniques.optimizer_reference import OptimizerSettings
from paribus.core.streams import stream

Regime = Literal["no tensor projected", "every matrix projected"]
Shapes = Sequence[torch.Size]
Step = Callable[[Tensor, Tensor, dict[str, Tensor], int, OptimizerSettings], Tensor]

REGIMES: tuple[Regime, ...] = ("no tensor projected", "every matrix projected")
CHECKED_STEPS = 2


def gradient(regime: Regime, weight: Tensor, noise: Tensor) -> Tensor:
    """Noise that is orthogonal to each row w[k], or that is as large along the row as across it."""
    if weight.ndim < 2:
        return noise
    w, n = weight.flatten(1), noise.flatten(1)
    lengths = w.norm(dim=1, keepdim=True).clamp_min(1e-12)
    if regime == "no tensor projected":
        return (n + w / lengths * n.norm(dim=1, keepdim=True)).view_as(weight)
    unit = w / lengths
    for _ in range(2):  # one pass leaves float32's rounding error of a large part along the row
        n = n - unit * (unit * n).sum(1, keepdim=True)
    return n.view_as(weight)


@dataclass(frozen=True)
class OptimizerProblem:
    """Read-only, though its parts are made on first use."""

    shapes: Shapes
    regime: Regime
    settings: OptimizerSettings
    device: torch.device

    @cached_property
    def weights(self) -> list[Tensor]:
        return [
            self._draw("weight", i, s) / (s[1:].numel() ** 0.5 if len(s) > 1 else 1) for i, s in self._indexed_shapes
        ]

    @cached_property
    def noises(self) -> list[list[Tensor]]:
        """One per step and tensor, about as large as gradients."""
        return [[1e-3 * self._draw(f"noise {k}", i, s) for i, s in self._indexed_shapes] for k in range(CHECKED_STEPS)]

    @property
    def _indexed_shapes(self) -> list[tuple[int, torch.Size]]:
        return list(enumerate(self.shapes))

    def _draw(self, name: str, i: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=stream(0, "bench", name, i)).to(self.device)

    def gradients(self, weights: Sequence[Tensor], k: int) -> list[Tensor]:
        """The gradients of step k at these weights: the regime holds whatever the weights have become."""
        return [gradient(self.regime, w, n) for w, n in zip(weights, self.noises[k], strict=True)]

    def expected_moves(self, step: Step) -> list[Tensor]:
        """The expected change of each weight over the checked steps, in float64."""
        weights = [w.double() for w in self.weights]
        states: list[dict[str, Tensor]] = [{} for _ in weights]
        for k in range(CHECKED_STEPS):
            gradients = [gradient(self.regime, w, n.double()) for w, n in zip(weights, self.noises[k], strict=True)]
            pairs = zip(weights, gradients, states, strict=True)
            weights = [step(w, g, state, k + 1, self.settings) for w, g, state in pairs]
        return [w - start.double() for w, start in zip(weights, self.weights, strict=True)]

    def count_projected(self) -> int:
        """How many tensors the rule projects at the start."""
        gradients = self.gradients(self.weights, 0)
        return sum(
            optimizer_reference.find_passing_view(w, g, self.settings) is not None
            for w, g in zip(self.weights, gradients, strict=True)
        )


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖."""
    distance = float((found.double() - wanted).norm() / wanted.norm())
    return distance if distance == distance else float("inf")

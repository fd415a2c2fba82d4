"""One step of supervised training. Techniques change only its slots; see core/protocols.py."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, HasDiagnostics, ParameterGroup, Slots
from paribus.methods.evaluated import Evaluated, PlainNetwork
from paribus.methods.lengths import copy_weights, find_convolution_weights, measure_lengths
from paribus.methods.trained import Trained, make_trained


class SupervisedTraining:
    """One network, one optimizer: transform the batch, follow the gradient of the objective, average the weights."""

    def __init__(
        self, slots: Slots, workshop: BuildContext, lengths: bool = False, trained: Trained | None = None
    ) -> None:
        """trained: from `make_trained`, for an objective that has to know the network; None: made here."""
        self._slots = slots
        self._sync = workshop.sync
        self._trained = trained or make_trained(slots, workshop)
        self.model, self.optimizer = self._trained.network, self._trained.optimizer
        self._evaluated = Evaluated(self.model, slots.ema)
        # found out once: isinstance with a protocol takes 5 µs
        self._diagnostics = (
            self.optimizer.diagnostics if isinstance(self.optimizer, HasDiagnostics) else dict[str, Tensor]
        )
        self._weights = find_convolution_weights(self.model) if lengths else []

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """One optimizer step. Returns the mean loss as a tensor: nothing here waits for the device."""
        slots, trained = self._slots, self._trained
        factor = slots.schedule(at)
        trained.prepare_step(factor)
        for transform in slots.transforms:
            batch = transform(batch, at)
        before = copy_weights(self._weights)
        metrics = trained.step(slots.update, lambda part: slots.objective(trained.in_step, part, at), batch)
        self._evaluated.update(at.step)
        diagnostics = self._diagnostics()
        if before:
            diagnostics |= measure_lengths(before, self._weights)
        return {**metrics, **diagnostics, "lr": trained.lrs[0] * factor}

    def parts(self) -> dict[str, Trained]:
        """What is trained: one network."""
        return {"": self._trained}

    @property
    def groups(self) -> list[ParameterGroup]:
        return list(self._trained.groups)

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained."""
        return self.model.parameters()

    @property
    def eval_model(self) -> nn.Module:
        """The network that evaluation and export use: the averaged one where there is one."""
        return self._evaluated.model

    @property
    def without_ema(self) -> PlainNetwork | None:
        """What predicts with the latest weights, where evaluation uses averaged ones; else None."""
        return self._evaluated.without_ema

    def prepare_eval(self) -> None:
        """Make ready to predict: evaluation mode, and BatchNorm statistics equal on all ranks."""
        self._evaluated.prepare(self._sync)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits, in full precision whatever the training precision."""
        return self.eval_model(inputs)

    def state_dict(self) -> dict[str, Any]:
        return {**self._trained.state_dict(), **self._evaluated.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._trained.load_state_dict(state)
        self._evaluated.load_state_dict(state)


@schema
class Supervised:
    """Classification, or any objective on one network."""

    def __call__(self, slots: Slots, workshop: BuildContext) -> SupervisedTraining:
        return SupervisedTraining(slots, workshop)


@schema
class SupervisedWithLengths:
    """The same steps, which also log how long the weights are and how far each step turns them (lengths.py)."""

    def __call__(self, slots: Slots, workshop: BuildContext) -> SupervisedTraining:
        """Raises ConfigError if the network has no convolutions."""
        return SupervisedTraining(slots, workshop, lengths=True)

"""One step of supervised training. Techniques change only its slots; see core/protocols.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, HasDiagnostics, Slots
from paribus.methods.lengths import copy_weights, find_convolution_weights, measure_lengths


@dataclass(frozen=True)
class PlainNetwork:
    """A network that predicts, for evaluators."""

    model: nn.Module

    @property
    def eval_model(self) -> nn.Module:
        return self.model

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits."""
        return self.model(inputs)


class SupervisedTraining:
    """One network, one optimizer: transform the batch, follow the gradient of the objective, average the weights."""

    def __init__(self, slots: Slots, workshop: BuildContext, lengths: bool = False) -> None:
        self._slots = slots
        self._sync = workshop.sync
        self.model = workshop.make(slots.model, "model")
        self.groups = workshop.groups(self.model, slots.optimizer.decay)
        self.optimizer = slots.optimizer(self.groups)
        self._lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._scaler = slots.update.scaler(workshop.place.device)
        self._train_model = workshop.wrap(self.model).train()
        self._ema = slots.ema(self.model)
        # found out once: isinstance with a protocol takes 5 µs
        self._diagnostics = (
            self.optimizer.diagnostics if isinstance(self.optimizer, HasDiagnostics) else dict[str, Tensor]
        )
        self._weights = find_convolution_weights(self.model) if lengths else []

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """One optimizer step. Returns the mean loss as a tensor: nothing here waits for the device."""
        slots = self._slots
        factor = slots.schedule(at)
        for group, lr in zip(self.optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr * factor
        if not self.model.training:  # after `prepare_eval`; walking all modules in each step would cost a small net 3 %
            self._train_model.train()
        for transform in slots.transforms:
            batch = transform(batch, at)
        before = copy_weights(self._weights)
        metrics = slots.update(
            lambda part: slots.objective(self._train_model, part, at),
            batch,
            self._train_model,
            self.optimizer,
            self._scaler,
        )
        if self._ema is not None:
            self._ema.update(self.model, at.step)
        diagnostics = self._diagnostics()
        if before:
            diagnostics |= measure_lengths(before, self._weights)
        return {**metrics, **diagnostics, "lr": self._lrs[0] * factor}

    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained."""
        return self.model.parameters()

    @property
    def eval_model(self) -> nn.Module:
        """The network that evaluation and export use: the averaged one where there is one."""
        return self.model if self._ema is None else self._ema.module

    @property
    def without_ema(self) -> PlainNetwork | None:
        """What predicts with the latest weights, where evaluation uses averaged ones; else None."""
        return None if self._ema is None else PlainNetwork(self.model)

    def prepare_eval(self) -> None:
        """Make ready to predict: evaluation mode, and BatchNorm statistics equal on all ranks."""
        for model in (self.model, self.eval_model) if self._ema is not None else (self.model,):
            self._sync(model)
            model.eval()

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to (n, classes) logits, in full precision whatever the training precision."""
        return self.eval_model(inputs)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            **({"ema": self._ema.state_dict()} if self._ema is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])


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

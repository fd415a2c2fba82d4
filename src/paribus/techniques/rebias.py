"""ReBias: a network learns features that are independent of those of a network that can only see the bias.

Bahng, Chun, Yun, Choo & Oh, "Learning De-biased Representations with Biased Representations", ICML 2020, arXiv
1910.02806, equations 3 to 6.

    min_g  CE(g) − λ_g HSIC₁(f, g)          min_f  CE(f) + λ_f HSIC₁(f, g)

f is the network that is wanted, g one whose architecture limits it to the bias (on Biased MNIST 1×1 convolutions, which
see colours). HSIC₁ is the unbiased estimator (Song et al. 2012, equation 5) of the Hilbert-Schmidt independence
criterion between their features, with Gaussian kernels exp(−‖a − b‖² / 2σ²); it is 0 on average for independent ones.

What it changes   the step: each batch trains g, then f. It takes the place of the supervised method, so optimizers,
                  transforms and schedules go with it, and each network has an optimizer of its own. No bias label is
                  used. `val` and accuracy are those of f.
Hyperparameters   lambda_f = lambda_g = 1, sigma = 1 on Biased MNIST and the median distance elsewhere (null): the
                  paper's. Theirs on Biased MNIST: Adam 1e-3, weight decay 1e-4, batches of 256, 80 epochs.
As the authors    one step of g, then one of f, on the same batch; the features are what the classifier is given; g's
                  step sees f's features as constants, f's step those of the new g.
Deviations        f goes forward once a step (the authors' code does so twice, and lets BatchNorm's statistics move
                  twice), so lambda_f = 0 is the supervised method bit for bit. sigma = null takes the median distance
                  of the batch; the authors take it of a quarter of the data once an epoch, and hand each kernel the
                  other network's. Several processes take HSIC₁ of the global batch. The estimator zeroes the diagonal
                  of both kernels; the authors' subtracts it from whole columns, which is the same for kernels with
                  ones there and wrong for others.
Cost              a second network, forward twice and back once a step, and two n × n kernels.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, ParameterGroup, Slots
from paribus.methods.distilled import FixedOutput
from paribus.methods.hsic import WithFeatures, gaussian_kernel, unbiased_hsic
from paribus.methods.supervised import PlainNetwork
from paribus.methods.trained import Trained, make_trained
from paribus.models.stacked_conv import StackedConv


class ReBiasTraining:
    """Two networks, each with an optimizer of its own; f is the one that predicts."""

    def __init__(self, slots: Slots, workshop: BuildContext, settings: "ReBias") -> None:
        self._slots, self._settings = slots, settings
        self._sync, self._gathered = workshop.sync, workshop.gathered
        self._f = make_trained(slots, workshop, view=WithFeatures)
        self._g = make_trained(slots, workshop, "biased", settings.biased, view=WithFeatures)
        self.model, self.optimizer = self._f.network, self._f.optimizer
        self._ema = slots.ema(self.model)

    def train_step(self, batch: Batch, at: Progress) -> dict[str, Tensor | float]:
        """One optimizer step of g, then one of f. Nothing here waits for the device."""
        slots, factor = self._slots, self._slots.schedule(at)
        for trained in (self._f, self._g):
            trained.prepare_step(factor)
        for transform in slots.transforms:
            batch = transform(batch, at)
        metrics = self._f.step(slots.update, lambda whole: self._loss_of_f(whole, at), batch)
        if self._ema is not None:
            self._ema.update(self.model, at.step)
        return {**metrics, "lr": self._f.lrs[0] * factor}

    def _loss_of_f(self, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        scores, features = self._f.in_step(batch.inputs)
        loss, metrics = self._slots.objective(FixedOutput(scores), batch, at)
        # g's step comes between f's forward and f's loss: it needs f's features, and f's loss needs the new g
        of_g = self._g.step(self._slots.update, lambda whole: self._loss_of_g(whole, at, features.detach()), batch)
        with torch.no_grad():
            _, biased = self._g.in_step(batch.inputs)
        dependence = self._measure(features, biased)
        metrics = {**metrics, "train/hsic": dependence, "train/loss_biased": of_g["train/loss"]}
        if not self._settings.lambda_f:  # 0 times an infinite value would be NaN
            return loss, metrics
        return loss + self._settings.lambda_f * dependence, metrics

    def _loss_of_g(self, batch: Batch, at: Progress, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scores, biased = self._g.in_step(batch.inputs)
        loss, _ = self._slots.objective(FixedOutput(scores), batch, at)
        return loss - self._settings.lambda_g * self._measure(features, biased), {}

    def _measure(self, features: Tensor, biased: Tensor) -> Tensor:
        """HSIC₁ over the global batch, in full precision: kernels of distances lose all in half."""
        with torch.autocast(features.device.type, enabled=False):
            wide = (x if x.dtype == torch.float64 else x.float() for x in (features, biased))
            kernels = [gaussian_kernel(self._gathered(x), self._settings.sigma) for x in wide]
            return unbiased_hsic(*kernels)

    def parts(self) -> dict[str, Trained]:
        """f, in the supervised network's place, and g."""
        return {"": self._f, "biased": self._g}

    @property
    def groups(self) -> list[ParameterGroup]:
        return list(self._f.groups)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Of both networks."""
        yield from self.model.parameters()
        yield from self._g.network.parameters()

    @property
    def eval_model(self) -> nn.Module:
        return self.model if self._ema is None else self._ema.module

    @property
    def without_ema(self) -> PlainNetwork | None:
        return None if self._ema is None else PlainNetwork(self.model)

    def prepare_eval(self) -> None:
        for model in {id(m): m for m in (self.model, self.eval_model, self._g.network)}.values():
            self._sync(model)
            model.eval()

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) to f's (n, classes) logits."""
        return self.eval_model(inputs)

    def state_dict(self) -> dict[str, Any]:
        average = {} if self._ema is None else {"ema": self._ema.state_dict()}
        return {**self._f.state_dict(), "biased": self._g.state_dict(), **average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._f.load_state_dict(state)
        self._g.load_state_dict(state["biased"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])


@schema
class ReBias:
    """biased: the network that can only see the bias. lambda_f, lambda_g: weight of the dependence in the losses of f
    and g; lambda_f = 0 is the supervised method. sigma: of the Gaussian kernels; null: the median distance of the
    batch's features, for each network its own."""

    biased: ModelFactory = Field(default_factory=lambda: StackedConv(kernel=1))
    lambda_f: Annotated[float, Field(ge=0)] = 1.0
    lambda_g: Annotated[float, Field(ge=0)] = 1.0
    sigma: Annotated[float, Field(gt=0)] | None = 1.0

    @property
    def couples_samples(self) -> bool:
        return True

    def __call__(self, slots: Slots, workshop: BuildContext) -> ReBiasTraining:
        return ReBiasTraining(slots, workshop, self)

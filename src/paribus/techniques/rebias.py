"""ReBias: a network learns features that are independent of those of a network that can only see the bias.

Bahng, Chun, Yun, Choo & Oh, "Learning De-biased Representations with Biased Representations", ICML 2020,
arXiv 1910.02806, equations 3 to 6.

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

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Objective, Slots
from paribus.methods.biased_pair import Pair, PairTraining
from paribus.methods.distilled import FixedOutput
from paribus.methods.hsic import gaussian_kernel, unbiased_hsic


class ReBiasLoss:
    """Both losses of one step. gathered: rows of all ranks, with gradients."""

    def __init__(self, objective: Objective, settings: "ReBias", gathered: Callable[[Tensor], Tensor]) -> None:
        self._objective, self._settings, self._gathered = objective, settings, gathered

    def __call__(self, pair: Pair, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        scores, features = pair.wanted
        loss, metrics = self._objective(FixedOutput(scores), batch, at)
        # g's step is taken here, between f's forward and f's loss: it needs f's features, and f's loss needs the new g
        of_g = pair.train_biased(lambda whole: self._loss_of_g(pair, whole, at, features.detach()))
        with torch.no_grad():
            biased = pair.biased(batch.inputs).features
        dependence = self._measure(features, biased)
        metrics = {**metrics, "train/hsic": dependence, "train/loss_biased": of_g["train/loss"]}
        if not self._settings.lambda_f:  # 0 times an infinite value would be NaN
            return loss, metrics
        return loss + self._settings.lambda_f * dependence, metrics

    def _loss_of_g(self, pair: Pair, batch: Batch, at: Progress, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scores, biased = pair.biased(batch.inputs)
        loss, _ = self._objective(FixedOutput(scores), batch, at)
        return loss - self._settings.lambda_g * self._measure(features, biased), {}

    def _measure(self, features: Tensor, biased: Tensor) -> Tensor:
        """HSIC₁ over the global batch, in full precision: kernels of distances lose all in half."""
        with torch.autocast(features.device.type, enabled=False):
            wide = (x if x.dtype == torch.float64 else x.float() for x in (features, biased))
            kernels = [gaussian_kernel(self._gathered(x), self._settings.sigma) for x in wide]
            return unbiased_hsic(*kernels)


@schema
class ReBias:
    """biased: the network that can only see the bias. lambda_f, lambda_g: weight of the dependence in the losses of f
    and g; lambda_f = 0 is the supervised method. sigma: of the Gaussian kernels; null: the median distance of the
    batch's features, for each network its own."""

    biased: ModelFactory
    lambda_f: Annotated[float, Field(ge=0)] = 1.0
    lambda_g: Annotated[float, Field(ge=0)] = 1.0
    sigma: Annotated[float, Field(gt=0)] | None = 1.0

    @property
    def couples_samples(self) -> bool:
        return True

    def __call__(self, slots: Slots, workshop: BuildContext) -> PairTraining:
        loss = ReBiasLoss(slots.objective, self, workshop.gathered)
        return PairTraining(slots, workshop, self.biased, loss)

"""Adversarial training: each step trains on images that were changed so as to raise the network's own loss.

Madry, Makelov, Schmidt, Tsipras & Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv 1706.06083, equation 2.1, with PGD as the inner maximisation.

    min_θ E max_{‖δ‖ ≤ ε} L(θ, x + δ, y)

What it changes   the inputs of a training batch, after all transforms; the objective is the recipe's, on the changed
                  inputs alone. It takes the place of the supervised method, so optimizers and transforms go with it.
Hyperparameters   epsilon = 8, step_size = 2 (in 1/255), steps = 7, random start, linf: the paper's on CIFAR-10.
As the authors    the order of augmentation and attack, the start, the steps and both projections
                  (paribus.methods.attacks has them); the attack's loss is the cross entropy of each image.
Deviations        the network is in evaluation mode while it is attacked: BatchNorm uses its running statistics, which
                  move once a step, with the attacked batch, and nothing is dropped; of several processes they are
                  rank 0's. So what an image becomes does not
                  depend on the others in its batch, nor on how a batch is divided. The authors' TensorFlow code
                  (cifar10_challenge) attacks in training mode and lets each pass of the attack move the statistics;
                  their later PyTorch library (robustness) attacks in evaluation mode. Random numbers come from a stream
                  that belongs to the sample (its index and the epoch). With mixed targets, which the paper has none of,
                  the attack raises the cross entropy with the mixed targets. Label smoothing and class weights are the
                  objective's and not the attack's.
Cost              `steps` further passes forward and back, without gradients of the weights, in the step's precision,
                  never compiled; one random number for each value of an image.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.capabilities import in_eval_mode
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, Objective, Slots
from paribus.methods.attacks import Attack, Norm, draw_starts
from paribus.methods.supervised import SupervisedTraining
from paribus.methods.trained import make_trained


class ObjectiveUnderAttack:
    """Any objective, on inputs that were changed to raise the loss of `network`, whose weights are those of the model
    that is called in a step. sync: makes its buffers equal on all ranks."""

    def __init__(
        self,
        objective: Objective,
        network: nn.Module,
        attack: Attack,
        random_start: bool,
        sync: Callable[[nn.Module], None],
    ) -> None:
        self._objective = objective
        self._network = network
        self._sync = sync
        self._attack = attack
        self._random_start = random_start

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = draw_starts(at.seed, "pgd", at.epoch, batch.ids, batch.inputs) if self._random_start else None
        # DDP makes buffers those of rank 0 in its own forward only, which comes after this. Else each rank would attack
        # with statistics of its own until an evaluation or a checkpoint makes them equal, and so train otherwise.
        self._sync(self._network)
        with in_eval_mode(self._network):
            inputs = self._attack(self._network, batch.inputs, batch.targets, drawn)
        return self._objective(model, replace(batch, inputs=inputs), at)


@schema
class PGDTraining:
    """norm: of the ball that a change stays in, linf or l2. epsilon: its radius in units of 1/255; 0 is exactly the
    supervised method. steps: of the attack. step_size: their length in units of 1/255; null for 2.5 · epsilon / steps.
    random_start: from a point that is uniform in the ball; false: from the image, and with one step FGSM."""

    norm: Norm = "linf"
    epsilon: Annotated[float, Field(ge=0)] = 8.0
    steps: Annotated[int, Field(ge=1)] = 7
    step_size: Annotated[float, Field(gt=0)] | None = 2.0
    random_start: bool = True

    def __call__(self, slots: Slots, workshop: BuildContext) -> SupervisedTraining:
        """Raises ConfigError where the inputs' mean and std are not known."""
        if not self.epsilon:
            return SupervisedTraining(slots, workshop)
        if not workshop.std:
            raise ConfigError("method: PGDTraining needs the mean and std of the data, to change pixels by `epsilon`")
        attack = Attack(self.norm, self.epsilon, self.steps, self.step_size, workshop.mean, workshop.std)
        trained = make_trained(slots, workshop)
        objective = ObjectiveUnderAttack(slots.objective, trained.network, attack, self.random_start, workshop.sync)
        return SupervisedTraining(replace(slots, objective=objective), workshop, trained=trained)

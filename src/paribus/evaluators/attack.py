"""Accuracy on images that were changed so as to fool the very network that is evaluated: FGSM and PGD, white box.

Goodfellow et al. 2015, arXiv 1412.6572, and Madry et al. 2018, arXiv 1706.06083; paribus.methods.attacks has the maths.
An image counts as right if the network is right on it as it is, and on what each restart of the attack makes of it.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.capabilities import HasNetwork, in_eval_mode
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.sums import Sums, metric_sums
from paribus.evaluators.accuracy import check_splits, rank_targets
from paribus.evaluators.some_images import check_limit, choose_evenly
from paribus.methods.attacks import Attack, Norm, draw_starts


def _check_epsilons(epsilons: tuple[float, ...]) -> tuple[float, ...]:
    if not epsilons or list(epsilons) != sorted(set(epsilons)):
        raise ValueError("should be rising radii in units of 1/255, such as [2, 4, 8]")
    return epsilons


@schema
class AccuracyUnderAttack:
    """val/attack_acc_pgd10_linf_8 and the like: top-1 accuracy, 0–1, under PGD of 10 steps in a linf ball of 8/255. The
    name states attack and steps, restarts where there are several (pgd10x5), norm and radius.

    attack: pgd, or fgsm, which is one step of the whole radius from the image itself; steps, step_size, restarts and
    random_start are pgd's. norm: linf or l2. epsilon: radii in units of 1/255, each attacked by itself; 0 is the plain
    accuracy. steps: of pgd. step_size: in units of 1/255; null for 2.5 · epsilon / steps. restarts: attacks of each
    image, of which the worst counts. random_start: from a point that is uniform in the ball; false: from the image.
    splits: val, minival or both. batch_size: samples at a time on one rank. seed: of the starts. limit: at most this
    many images, evenly spaced in the split; null: all. at: end, after the last step, or always.
    """

    needs: ClassVar[tuple[type, ...]] = (HasNetwork,)
    attack: Literal["pgd", "fgsm"] = "pgd"
    norm: Norm = "linf"
    epsilon: Annotated[tuple[Annotated[float, Field(ge=0)], ...], AfterValidator(_check_epsilons)] = (
        1.0,
        2.0,
        4.0,
        8.0,
    )
    steps: Annotated[int, Field(ge=1)] = 10
    step_size: Annotated[float, Field(gt=0)] | None = None
    restarts: Annotated[int, Field(ge=1)] = 1
    random_start: bool = True
    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    batch_size: Annotated[int, Field(ge=1)] = 128
    seed: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    at: When = "end"

    def __post_init__(self) -> None:
        if self.restarts > 1 and (self.attack == "fgsm" or not self.random_start):
            raise ValueError(f"restarts: found {self.restarts}; each of them would be the same without a random start")

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return tuple(self._key(split, epsilon) for split in self.splits for epsilon in self.epsilon)

    def check_method(self, method: HasNetwork, context: EvaluationContext) -> None:
        """Raises ConfigError for a network that passes no gradient on to its inputs, or a limit of an unknown whole."""
        check_limit("attack", self.limit, self.splits, context)
        spec, place = context.spec, context.place
        shape = (1, spec.channels, spec.height, spec.width)
        inputs = torch.zeros(shape, dtype=place.dtype, device=place.device, requires_grad=True)
        with in_eval_mode(method.eval_model), torch.enable_grad():
            if not method.eval_model(inputs).requires_grad:
                raise ConfigError(
                    "evaluators.attack: the network gives no gradient with respect to its inputs, which an attack "
                    "follows; evaluators.attack=null leaves it out"
                )

    def __call__(self, method: HasNetwork, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        with in_eval_mode(method.eval_model):
            for split in self.splits:
                for batch in choose_evenly(splits, split, self.batch_size, self.limit, context):
                    sums += self._attack_batch(method.eval_model, split, batch, context)
        return sums

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """The accuracy by radius."""
        means = sums.means()
        found: dict[str, Any] = {}
        for split in self.splits:
            points = [(e, means[key]) for e in self.epsilon if (key := self._key(split, e)) in means]
            found[self._name() if split == "val" else f"{split}/{self._name()}"] = {
                "curve": {
                    "x": [epsilon for epsilon, _ in points],
                    "y": [mean for _, mean in points],
                    "x_label": f"ε ({self.norm}), in units of 1/255",
                    "y_label": "top-1 accuracy",
                }
            }
        return found

    def _name(self) -> str:
        restarts = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"{'fgsm' if self.attack == 'fgsm' else f'pgd{self.steps}{restarts}'}_{self.norm}"

    def _key(self, split: str, epsilon: float) -> str:
        return f"{split}/attack_acc_{self._name()}_{epsilon:g}"

    def _attack_batch(self, network: nn.Module, split: str, batch: Batch, context: EvaluationContext) -> Sums:
        sums, n = Sums(), len(batch)
        natural = _is_right(network, batch.inputs, batch.targets) if n else batch.targets.bool()  # empty shares too
        for epsilon in self.epsilon:
            right = natural
            for inputs in self._attacked(network, batch, epsilon, context) if n else ():
                right = right & _is_right(network, inputs, batch.targets)
            sums += metric_sums(self._key(split, epsilon), right.sum(), n)
        return sums

    def _attacked(
        self, network: nn.Module, batch: Batch, epsilon: float, context: EvaluationContext
    ) -> Iterator[Tensor]:
        """The inputs that each restart ends with."""
        mean, std = context.mean, context.std
        if self.attack == "fgsm":
            yield Attack(self.norm, epsilon, 1, epsilon, mean, std)(network, batch.inputs, batch.targets)
            return
        attack = Attack(self.norm, epsilon, self.steps, self.step_size, mean, std)
        for restart in range(self.restarts if epsilon else 0):
            drawn = draw_starts(self.seed, "attack", restart, batch.ids, batch.inputs) if self.random_start else None
            yield attack(network, batch.inputs, batch.targets, drawn)


@torch.no_grad()
def _is_right(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) bool, as accuracy counts: of equal scores the lower class wins, and NaN is never right."""
    return rank_targets(network(inputs), targets) < 1

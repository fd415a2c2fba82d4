"""One step of adversarial training, to compare with an account that is written out in a test."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.conformance.trainings import workbench
from paribus.core.progress import Progress
from paribus.core.streams import normal
from paribus.recipe.smoke import build_small

RATE, SIZE = 0.1, 6
SGD = (
    "experiment=smoke_images",
    "optimizer=sgd",
    f"optimizer.lr={RATE}",
    "optimizer.momentum=0",
    "optimizer.nesterov=false",
    "optimizer.weight_decay=0",
    "schedule=constant",
    "update.precision=fp64",
    f"batch_size={SIZE}",
    "model.conditional=true",
    "method.discriminator.conditional=true",
)
AT = Progress(0, 10, 0)
Weights = dict[str, Tensor]


class Shown(NamedTuple):
    """What a discriminator is shown: (n, c, h, w) inputs, (n, k) classes of both, and the generator's maps."""

    real: Tensor
    fake: Tensor
    classes: Tensor
    maps: tuple[Tensor, ...]


Account = Callable[[nn.Module, Weights, Shown], Tensor]
"""A loss, a scalar, of a discriminator with these weights."""


def no_term(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def step_once(
    account: Account, *overrides: str, techniques: tuple[str, ...] = (), of_generator: Account = no_term
) -> tuple[float, float]:
    """The largest difference of a weight from the account after one step of plain SGD: generator, discriminator.

    account: the discriminator's loss. of_generator: a term that the generator's loss has beside its own, of the
    discriminator after its step.
    """
    recipe = build_small((*SGD, "method.discriminator.spectral=false", *overrides), techniques)
    data, method, _ = workbench(recipe)
    batch = data.loader(recipe.batch_size, 0).batch(0)
    networks = [part.network for part in method.parts().values()]  # type: ignore[attr-defined]
    with torch.no_grad():  # as they are drawn, N(0, 0.02²), nothing would move
        for parameter in (p for network in networks for p in network.parameters()):
            parameter.mul_(8)
    one, other = (
        {k: p.detach().clone().requires_grad_() for k, p in network.named_parameters()} for network in networks
    )
    generator, discriminator = networks
    classes = F.one_hot(batch.targets, 10).double()
    mean, std = (torch.tensor(x, dtype=torch.float64).view(-1, 1, 1) for x in (data.mean, data.std))

    def show(stream: str) -> Shown:
        noise = normal(0, f"adversarial.{stream}", 0, torch.arange(SIZE), 16).double()
        images, maps = torch.func.functional_call(generator, one, (noise, classes))
        return Shown(batch.inputs, ((images + 1) / 2 - mean) / std, classes, maps)

    def descend(weights: Weights, loss: Tensor) -> Weights:
        slopes = torch.autograd.grad(loss, list(weights.values()))
        return {k: (w - RATE * d).detach() for (k, w), d in zip(weights.items(), slopes, strict=True)}

    stepped = descend(other, account(discriminator, other, show("discriminator")))
    shown = show("generator")
    judged = torch.func.functional_call(discriminator, stepped, (shown.fake, classes)).scores
    made = descend(one, (1 + (-judged).exp()).log().mean() + of_generator(discriminator, stepped, shown))
    method.train_step(batch, AT)
    return tuple(  # type: ignore[return-value]
        max(float((p.detach() - expected[k]).abs().max()) for k, p in network.named_parameters())
        for network, expected in ((generator, made), (discriminator, stepped))
    )


def logistic(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
    """The discriminator's loss without any penalty."""
    of_real, of_fake = (
        torch.func.functional_call(network, weights, (x, shown.classes)).scores for x in (shown.real, shown.fake)
    )
    return (1 + (-of_real).exp()).log().mean() + (1 + of_fake.exp()).log().mean()

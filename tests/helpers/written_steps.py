"""One step of a method with two networks, to compare with an account that is written out in a test."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from paribus.conformance.trainings import workbench
from paribus.core.progress import Progress
from paribus.recipe.smoke import build_small

RATE = 0.1
PLAIN_SGD = (
    "experiment=smoke",
    "optimizer=sgd",
    f"optimizer.lr={RATE}",
    "optimizer.momentum=0",
    "optimizer.nesterov=false",
    "optimizer.weight_decay=0",
    "schedule=constant",
    "update.precision=fp64",
)
Weights = dict[str, Tensor]
Losses = Callable[[nn.Module, Weights, nn.Module, Weights, Tensor, Tensor], tuple[Tensor, Tensor]]


def step_once(technique: str, *overrides: str, losses: Losses) -> tuple[list[float], list[float]]:
    """How far each weight of the wanted and of the biased network is from the account after one step of plain SGD:
    the largest difference of each tensor. losses: of the networks (module, weights by name) on inputs and targets,
    the wanted one's and the biased one's; each is followed in its own weights alone."""
    recipe = build_small((*PLAIN_SGD, *overrides), (technique,))
    data, method, _ = workbench(recipe)
    batch = data.loader(recipe.batch_size, 0).batch(0)
    wanted, biased = (part.network for part in method.parts().values())  # type: ignore[attr-defined]
    one, other = (
        {k: p.detach().clone().requires_grad_() for k, p in network.named_parameters()} for network in (wanted, biased)
    )
    loss_of_wanted, loss_of_biased = losses(wanted, one, biased, other, batch.inputs, batch.targets)
    followed = descend(one, loss_of_wanted), descend(other, loss_of_biased)
    method.train_step(batch, Progress(0, 10, 0))
    return tuple(  # type: ignore[return-value]
        [float((p.detach() - weights[k]).abs().max()) for k, p in network.named_parameters()]
        for network, weights in zip((wanted, biased), followed, strict=True)
    )


def descend(weights: Weights, loss: Tensor) -> Weights:
    gradients = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return {
        k: (w if d is None else w - RATE * d).detach() for (k, w), d in zip(weights.items(), gradients, strict=True)
    }


def part_of(weights: Mapping[str, Tensor], name: str) -> Weights:
    """The weights of a submodule, by their names in it."""
    return {k.removeprefix(f"{name}."): w for k, w in weights.items() if k.startswith(f"{name}.")}


def call_with_features(network: nn.Module, weights: Weights, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, and what `head` is given."""
    seen = list[Tensor]()
    handle = network.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore
    scores = torch.func.functional_call(network, weights, (inputs,))
    handle.remove()
    return scores, seen[0]

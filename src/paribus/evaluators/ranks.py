"""The rank of what a layer puts out, over how many channels it has: ReXNet's analysis (Han et al. 2021, arXiv
2007.00992) of layers of random weights, and the same ratio for the layers of a trained network.

A rank is numerical: how many singular values are larger than `tolerance` times the largest. It must be named with every
result, for a non-linearity leaves no singular value at zero: at rounding error's tolerance any of them gives full rank.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from paribus.core.errors import RunFailed
from paribus.core.streams import stream

Nonlinearity = Callable[[Tensor], Tensor]


def linear(x: Tensor) -> Tensor:
    return x


NONLINEARITIES: Mapping[str, Nonlinearity] = {
    "linear": linear,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "elu": F.elu,
    "silu": F.silu,
}
RATIOS = tuple(k / 10 for k in range(1, 11))  # d_in / d_out
SIZES = (32, 128)  # smallest and largest d_out


def rank_ratio(weights: Tensor, inputs: Tensor, nonlinearity: Nonlinearity, tolerance: float) -> float:
    """rank(f(W X)) / d_out for W (d_out, d_in) and X (d_in, n).

    >>> x = torch.eye(2, dtype=torch.float64)
    >>> rank_ratio(torch.ones(4, 2, dtype=torch.float64), x, linear, 1e-6)
    0.25
    """
    values = torch.linalg.svdvals(nonlinearity(weights @ inputs))
    return int((values > tolerance * values[0]).sum()) / len(weights)


def draw_layer(seed: int, draw: int, ratio: float) -> tuple[Tensor, Tensor]:
    """W (d_out, d_in) ~ N(0, 1 / d_in) and as many inputs as outputs, X (d_in, d_out) ~ N(0, 1), in float64 on the CPU.
    d_out is uniform over `SIZES`, d_in = max(1, round(ratio · d_out))."""
    random = stream(seed, "random_layers", draw, repr(ratio))
    outputs = int(torch.randint(SIZES[0], SIZES[1] + 1, (), generator=random))
    inputs = max(1, round(ratio * outputs))
    weights = torch.randn(outputs, inputs, generator=random, dtype=torch.float64) / inputs**0.5
    return weights, torch.randn(inputs, outputs, generator=random, dtype=torch.float64)


def random_rank_ratios(draws: int, tolerance: float, seed: int, rank: int = 0, world: int = 1) -> Tensor:
    """(non-linearities, ratios, draws) float64, of which this rank fills every world-th draw; the sum over ranks has
    all. Every non-linearity is given the same weights and inputs."""
    found = torch.zeros(len(NONLINEARITIES), len(RATIOS), draws, dtype=torch.float64)
    for draw in range(rank, draws, world):
        for j, ratio in enumerate(RATIOS):
            weights, inputs = draw_layer(seed, draw, ratio)
            for i, nonlinearity in enumerate(NONLINEARITIES.values()):
                found[i, j, draw] = rank_ratio(weights, inputs, nonlinearity, tolerance)
    return found


def rank_of_gram(gram: Tensor, tolerance: float) -> int:
    """The numerical rank of a matrix F from FᵀF in float64. Eigenvalues are squared singular values, so a tolerance
    under about 1e-7 is lost in rounding. Raises RunFailed if F has NaN or infinite values."""
    if not bool(gram.isfinite().all()):
        raise RunFailed("the outputs of a layer are NaN or infinite, and have no rank")
    values = torch.linalg.eigvalsh(gram.cpu()).clamp_min(0).sqrt()
    return int((values > tolerance * values[-1]).sum())


def gram(features: Tensor, channel_axis: int) -> Tensor:
    """FᵀF, (c, c) float64, where F has a row for each position of each image and a column for each channel."""
    rows = features.movedim(channel_axis, -1).flatten(0, -2).double()
    return rows.T @ rows


def find_layers(model: nn.Module) -> dict[str, nn.Module]:
    """By name: convolutions that are not grouped, and linear layers. An output of a grouped one sees few channels."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and module.groups == 1)
    }


@contextmanager
def record_grams(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Of what each layer takes in and puts out while this is open, by name, in the order of their first call: what it
    takes in is what the layers before put out, normalised and activated."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str, axis: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            grams = (gram(given[0], axis), gram(made, axis))
            if name in found:
                grams = (found[name][0] + grams[0], found[name][1] + grams[1])
            found[name] = grams

        return record

    handles = [
        module.register_forward_hook(hook(name, 1 if isinstance(module, _ConvNd) else -1))
        for name, module in find_layers(model).items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

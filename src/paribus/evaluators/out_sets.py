"""Images that a network was not trained for: noise, and the images of other data sets. For `ood`.

Each set is an iterator over (ids, inputs), this rank's share, normalised as the network's own inputs are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, make_context
from paribus.core.formatting import format_list
from paribus.core.protocols import DataFactory, DataSets
from paribus.core.streams import uniform

Noise = Literal["uniform", "gaussian"]
OutSet = Callable[[int], Iterator[tuple[Tensor, Tensor]]]  # of a batch size

_DRAWS = 2**17  # at a time: their int64 temporaries stay in a CPU's cache, and small on a device


def draw_noise(kind: Noise, seed: int, ids: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(n, *shape) float32 pixels of independent noise, in 256 grey levels from 0 to 1 as images have.

    uniform: each level equally often. gaussian: mean 0.5 and standard deviation 1, clipped to 0–1, so that 62 % of the
    values are black or white, as in Liang, Li & Srikant (ICLR 2018, arXiv 1706.02690). seed, ids: all that it depends
    on. ids: (n,) int64, on the device where it is wanted.
    """
    count = math.prod(shape)
    made = [_draw(kind, seed, some, count) for some in ids.split(max(1, _DRAWS // count))]
    return torch.cat(made).view(len(ids), *shape)


def _draw(kind: Noise, seed: int, ids: Tensor, count: int) -> Tensor:
    if kind == "uniform":
        return (uniform(seed, "ood.uniform", 0, ids, count) * 256).floor() / 255
    pairs = -(-count // 2)
    radius, angle = uniform(seed, "ood.gaussian", 0, ids, 2 * pairs).split(pairs, 1)
    radius = (-2 * (1 - radius).log()).sqrt()  # Box and Muller: two independent normal numbers from two uniform ones
    normal = torch.cat((radius * (2 * math.pi * angle).cos(), radius * (2 * math.pi * angle).sin()), 1)[:, :count]
    return ((0.5 + normal).clamp(0, 1) * 255).round() / 255


def make_noise(kind: Noise, seed: int, count: int, context: EvaluationContext) -> OutSet:
    """`count` images of noise over all ranks."""
    spec, place = context.spec, context.place
    first, last = (count * r // place.world for r in (place.rank, place.rank + 1))

    def batches(batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        # an empty share gives an empty batch: ranks gather the same names
        for ids in torch.arange(first, last, device=place.device).split(batch_size):
            pixels = draw_noise(kind, seed, ids, (spec.channels, spec.height, spec.width))
            yield ids, context.to_inputs(pixels).to(place.dtype, memory_format=place.memory_format)

    return batches


def open_out_set(where: str, factory: DataFactory, classes: Sequence[str], context: EvaluationContext) -> OutSet:
    """The split `val` of another data set. classes: the names of those that are kept, () for all. where: its config
    key. Raises ConfigError if it is not there or its images are of another size than the network's."""
    try:
        data = factory(context.place)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    own, its = ((s.channels, s.height, s.width) for s in (context.spec, data.spec))
    if own != its:
        found, wanted = ("×".join(map(str, shape)) for shape in (its, own))
        raise ConfigError(
            f"{where}: found images of {found} (channels, height, width); the network's are {wanted}; set the keys of "
            "that data set which say so, such as size and channels"
        )
    kept = _find_classes(where, data, classes)
    theirs, place, val = make_context(data, context.place), context.place, data.splits["val"]  # no training images

    def batches(batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in val(batch_size):
            ids, inputs = batch.ids, batch.inputs
            if kept:  # the device is waited for in each batch, which is cheaper than to predict what is not wanted
                chosen = torch.isin(batch.targets, torch.tensor(kept, device=batch.targets.device))
                ids, inputs = ids[chosen], inputs[chosen]
            if (theirs.mean, theirs.std) != (context.mean, context.std):
                inputs = context.to_inputs(theirs.to_pixels(inputs))
            yield ids, inputs.to(place.dtype, memory_format=place.memory_format)

    return batches


def _find_classes(where: str, data: DataSets, classes: Sequence[str]) -> list[int]:
    """The labels of these classes, by their names or ids."""
    index = {name: k for names in (data.class_ids, data.names) for k, name in enumerate(names)}
    if strange := [name for name in classes if name not in index]:
        known = list(data.names or data.class_ids)
        raise ConfigError(
            f"{where}: has no class {strange[0]}{did_you_mean(strange[0], known)}; it has {format_list(known)}"
        )
    return [index[name] for name in classes]

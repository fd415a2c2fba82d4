"""How the layers of a network behave: how widely attention looks (PiT's figures), the rank of features (ReXNet's
analysis), and the length of convolutions' weights (AdamP's argument).

One number a network, averaged over layers; the curves over layers are in the details.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from paribus.core.build import schema
from paribus.core.capabilities import HasAttention, HasNetwork
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.sums import Sums, table_sums
from paribus.evaluators.accuracy import check_splits
from paribus.evaluators.attention import among_cells, entropy, mean_distance
from paribus.evaluators.ranks import (
    NONLINEARITIES,
    RATIOS,
    find_layers,
    random_rank_ratios,
    rank_of_gram,
    record_grams,
)
from paribus.evaluators.some_images import check_limit, choose_evenly

Part = Literal["attention", "rank", "lengths", "random_layers"]
ATTENTION = ("entropy", "evenness", "distance")  # columns of the table
SIDES = ("in", "out")


def _check_parts(parts: Literal["auto"] | tuple[Part, ...]) -> Literal["auto"] | tuple[Part, ...]:
    if not parts:
        raise ValueError("should name a part; evaluators.NAME=null leaves the evaluator out")
    return parts


@schema
class Mechanism:
    """Measurements of a network's layers. Each part has its metrics, averaged over layers:

    val/attention_entropy in nats and val/attention_distance in pixels; val/rank_in and val/rank_out, the rank of what
    layers take in and put out over their channels, 0–1; lengths/convolutions, mean ‖w‖; and, of layers of random
    weights and no network, random_rank/NAME for each non-linearity.

    splits: val, minival or both. parts: auto, for what the network has of attention, rank and lengths; or a list of
    those and random_layers. tolerance: singular values above this share of the largest count for a rank. draws: of
    layers with random weights, for each ratio of inputs to outputs. seed: of those. limit: at most this many images,
    evenly spaced in the split; null: all. batch_size: samples at a time on one rank. at: end, after the last step, or
    always.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    parts: Annotated[Literal["auto"] | tuple[Part, ...], AfterValidator(_check_parts)] = "auto"
    tolerance: Annotated[float, Field(ge=1e-6, lt=1)] = 0.01
    draws: Annotated[int, Field(ge=2)] = 100
    seed: int = 0
    limit: Annotated[int, Field(ge=1)] | None = 1000
    batch_size: Annotated[int, Field(ge=1)] = 64
    at: When = "end"

    needs: ClassVar[tuple[type, ...]] = (HasNetwork,)

    @property
    def keys(self) -> tuple[str, ...]:
        parts = ("attention", "rank", "lengths") if self.parts == "auto" else self.parts
        made: dict[Part, list[str]] = {
            "attention": [f"{s}/attention_{what}" for s in self.splits for what in ("entropy", "distance")],
            "rank": [f"{s}/rank_{side}" for s in self.splits for side in SIDES],
            "lengths": ["lengths/convolutions"],
            "random_layers": [f"random_rank/{name}" for name in NONLINEARITIES],
        }
        return tuple(key for part in parts for key in made[part])

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        has = _parts_of(method.eval_model)
        for part in () if self.parts == "auto" else self.parts:
            if part not in has:
                lacks = {"attention": "attention to be read, as ViT and PiT have", "lengths": "convolutions"}
                raise ConfigError(
                    f"evaluators.mechanism.parts: found {part}; {type(method.eval_model).__name__} has no "
                    f"{lacks.get(part, 'linear layers or convolutions')}; leave it out, or set parts=auto"
                )
        if {"attention", "rank"} & (has if self.parts == "auto" else set(self.parts)):
            check_limit("mechanism", self.limit, self.splits, context)

    @torch.no_grad()
    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        model = cast(HasNetwork, method).eval_model
        has = _parts_of(model)
        parts = has - {"random_layers"} if self.parts == "auto" else has & set(self.parts)
        sums, place = Sums(), context.place
        for split in self.splits if parts & {"attention", "rank"} else ():
            for batch in choose_evenly(splits, split, self.batch_size, self.limit, context):
                if "rank" in parts:
                    sums += _gram_sums(model, batch.inputs, split)
                if "attention" in parts:
                    sums += _attention_sums(cast(HasAttention, model), batch.inputs, split)
        if "lengths" in parts:
            lengths = torch.stack([layer.weight.double().norm() for layer in _convolutions(model)])
            sums += table_sums("lengths", lengths if place.rank == 0 else torch.zeros_like(lengths))
        if "random_layers" in parts:
            ratios = random_rank_ratios(self.draws, self.tolerance, self.seed, place.rank, place.world)
            sums += table_sums("random_layers", ratios.to(place.device))
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        found: dict[str, float] = {}
        for split in self.splits:
            if f"{split}/attention" in sums.tables:
                means = _attention_by_layer(sums, split)
                found |= {f"{split}/attention_{k}": _mean(means[k]) for k in ("entropy", "distance") if means[k]}
            for side in SIDES:
                if ratios := self._rank_by_layer(sums, split, side):
                    found[f"{split}/rank_{side}"] = _mean(list(ratios.values()))
        if "lengths" in sums.tables:
            found["lengths/convolutions"] = float(sums.tables["lengths"].mean())
        if "random_layers" in sums.tables:
            means = sums.tables["random_layers"].mean((1, 2)).tolist()
            found |= {f"random_rank/{name}": mean for name, mean in zip(NONLINEARITIES, means, strict=True)}
        return found

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        curves: dict[str, Any] = {}
        for split in self.splits:
            start = "" if split == "val" else f"{split}/"
            if f"{split}/attention" in sums.tables:
                means = _attention_by_layer(sums, split)
                units = ("entropy of attention, nats", "entropy over that of even attention", "distance, pixels")
                curves |= {
                    f"{start}attention_{what}": _curve_over_layers(means[what], unit)
                    for what, unit in zip(ATTENTION, units, strict=True)
                }
            for side in SIDES:
                if ratios := self._rank_by_layer(sums, split, side):
                    label = f"rank of what is {'taken in' if side == 'in' else 'put out'} / channels"
                    curves[f"{start}rank_{side}"] = _curve_over_layers(list(ratios.values()), label, list(ratios))
        if "lengths" in sums.tables:
            curves["lengths"] = _curve_over_layers(sums.tables["lengths"].tolist(), "length of a convolution's weights")
        if "random_layers" in sums.tables:
            curves |= _random_layer_curves(sums.tables["random_layers"].cpu())
        return curves

    def _rank_by_layer(self, sums: Sums, split: str, side: str) -> dict[str, float]:
        """By the layer's name, in the order of layers."""
        start = f"{split}/rank_{side} "
        named = sorted((name, table) for name, table in sums.tables.items() if name.startswith(start))
        return {name.split(" ", 2)[2]: rank_of_gram(table, self.tolerance) / len(table) for name, table in named}


def _parts_of(model: nn.Module) -> set[Part]:
    has: set[Part] = {"random_layers"}
    if isinstance(model, HasAttention):
        has.add("attention")
    if find_layers(model):
        has.add("rank")
    if _convolutions(model):
        has.add("lengths")
    return has


def _convolutions(model: nn.Module) -> list[_ConvNd]:
    return [module for module in model.modules() if isinstance(module, _ConvNd)]


def _gram_sums(model: nn.Module, inputs: Tensor, split: str) -> Sums:
    with record_grams(model) as found:
        model(inputs)
    return Sums(
        tables={
            f"{split}/rank_{side} {i:04} {name}": gram
            for i, (name, grams) in enumerate(found.items())
            for side, gram in zip(SIDES, grams, strict=True)
        }
    )


def _attention_sums(model: HasAttention, inputs: Tensor, split: str) -> Sums:
    rows: list[Tensor] = []
    for found in model.attention_maps(inputs):
        weights, cells = among_cells(found), found.grid[0] * found.grid[1]
        nats = entropy(weights).sum()
        evenness = nats / math.log(cells) if cells > 1 else nats
        rows.append(torch.stack([nats, evenness, mean_distance(weights, found.grid, found.pitch).sum()]))
    images = torch.full((), len(inputs), dtype=torch.int64, device=inputs.device)
    return table_sums(f"{split}/attention", torch.stack(rows)) + table_sums(f"{split}/attention_images", images)


def _attention_by_layer(sums: Sums, split: str) -> Mapping[str, list[float]]:
    """By name, each layer's mean over images; without images, nothing."""
    images = int(sums.tables[f"{split}/attention_images"])
    columns = sums.tables[f"{split}/attention"].T.tolist()
    return {k: [x / images for x in column] if images else [] for k, column in zip(ATTENTION, columns, strict=True)}


def _random_layer_curves(ratios: Tensor) -> dict[str, Any]:
    """ratios: as `random_rank_ratios` gives them. low, high: 95 % intervals of the mean over draws, by the normal
    distribution."""
    means = ratios.mean(2)
    halves = 1.96 * ratios.std(2) / ratios.shape[2] ** 0.5
    return {
        f"random_layers_{name}": {
            "curve": {
                "x": list(RATIOS),
                "y": mean.tolist(),
                "low": (mean - half).tolist(),
                "high": (mean + half).tolist(),
                "x_label": "inputs over outputs of the layer",
                "y_label": "rank / outputs",
            }
        }
        for name, mean, half in zip(NONLINEARITIES, means, halves, strict=True)
    }


def _curve_over_layers(values: Sequence[float], label: str, names: Sequence[str] = ()) -> dict[str, Any]:
    curve: dict[str, Any] = {
        "x": list(range(1, len(values) + 1)),
        "y": list(values),
        "x_label": "layer, from the first",
        "y_label": label,
    }
    return {"curve": {**curve, "names": list(names)} if names else curve}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

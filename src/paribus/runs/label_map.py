"""`paribus data label-map`: a trained network's classifier at every place of every training image (core/label_maps.py).

Of a network that ends in a global average pool and a linear layer the classifier is applied at each cell of the last
feature map, as a 1×1 convolution. Both are linear, so the cells' mean is what the network itself says of the image.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.capabilities import watch_ending
from paribus.core.errors import ConfigError
from paribus.core.label_maps import AboutMaps, LabelMaps, hash_maps, keep_top
from paribus.core.labels import match_classes
from paribus.core.long_step import long_step
from paribus.core.protocols import DataSets, DeviceContext, Spec
from paribus.engine.distributed import World
from paribus.engine.runtime import apply_runtime
from paribus.methods.distilled import hash_weights
from paribus.recipe.build import explain_build_errors, make_device_context
from paribus.runs.saved_run import SavedRun, describe_data, load_network, read_inputs, rebuild_with_overrides

_ROUNDING = 1e-3  # of the logits' range, by which the cells' mean may be off the network's own logits


@dataclass(frozen=True)
class MadeMaps:
    """checksum: what a run knows the file by. agreement: share of the images whose label is the greatest of the mean
    over the whole map."""

    maps: LabelMaps
    checksum: str
    agreement: float


def dense_logits(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(n, c, h, w) inputs to logits at each cell, (n, classes, h', w'), and the network's own, (n, classes). Raises
    ConfigError for a network that does not end in a global average pool and one linear layer."""
    scores, ending = watch_ending(model, inputs)
    if ending is None or ending.pooled is None:
        raise ConfigError(
            f"{type(model).__name__} does not end in a global average pool and one linear layer, so its classifier "
            "cannot be applied at each place; a ResNet, a plain convolutional net or a MobileNet can be"
        )
    return F.conv2d(ending.pooled, ending.weight[:, :, None, None], ending.bias), scores


def make_label_maps(
    found: SavedRun, overrides: Sequence[str], allowed: tuple[str, ...], top: int, size: int | None, batch_size: int
) -> MadeMaps:
    """overrides: of the run's data, so that the images may be others of the same classes. size: pixels a side of what
    the network sees, the whole image; None: that of its training. Raises ConfigError."""
    recipe = rebuild_with_overrides(found.recipe.config, overrides, allowed)
    place = make_device_context(recipe, apply_runtime(recipe.runtime, World()), World())
    with explain_build_errors("data"):
        data = recipe.data(place)
    order = check_teacher(found, data)
    method: Any = load_network(found, recipe, describe_data(found), place)
    method.prepare_eval()
    model = getattr(method, "eval_model", None)
    if model is None:
        raise ConfigError(f"{found.name}: {type(method).__name__} has no single network whose maps could be made")
    began = time.perf_counter()
    ids, targets, parts = _run_over_images(model, data, order, top, size, batch_size)
    seconds = time.perf_counter() - began
    rank = ids.argsort()
    values, indices = (torch.cat([part[k] for part in parts])[rank] for k in (0, 1))
    rest = None if parts[0][2] is None else torch.cat([part[2] for part in parts])[rank]
    height, width = (data.spec.height, data.spec.width) if size is None else (size, size)
    about = AboutMaps(
        data.checksum,
        data.spec.classes,
        data.class_ids,
        recipe_id(found),
        hash_weights(model),
        (height, width),
        {"seconds": round(seconds, 3), "device": _name_device(place), "teacher": _cost_of_training(found)},
    )
    maps = LabelMaps(ids[rank], values.contiguous(), indices.contiguous(), rest, about)
    agreement = float((torch.cat([part[3] for part in parts]) == targets).double().mean())
    return MadeMaps(maps, hash_maps(maps), agreement)


@torch.no_grad()
def _run_over_images(
    model: nn.Module, data: DataSets, order: Tensor | None, top: int, size: int | None, batch_size: int
) -> tuple[Tensor, Tensor, list[Any]]:
    """Ids and labels of all training images, and of each batch values, indices, rest and the class of the greatest
    mean; all on the CPU."""
    assert data.whole is not None
    ids, targets, parts = list[Tensor](), list[Tensor](), list[Any]()
    with long_step("label maps", data.sizes["train"], "images") as advance:
        for batch in data.whole(batch_size, size):
            dense, scores = dense_logits(model, batch.inputs)
            if not parts:
                _check_mean(dense, scores)
            if order is not None:
                dense = dense[:, order.to(dense.device)]
            dense = dense.cpu()
            parts.append((*keep_top(dense, min(top, data.spec.classes)), dense.mean((2, 3)).argmax(1)))
            ids.append(batch.ids.cpu())
            targets.append(batch.targets.cpu())
            advance(len(batch))
    found = torch.cat(ids)
    if len(found) != data.sizes["train"]:
        raise ConfigError(
            f"data: {data.sizes['train'] - len(found)} of {data.sizes['train']} training images did not decode, and "
            "each needs a map; remove them (paribus data check --deep lists them), or pack the others"
        )
    return found, torch.cat(targets), parts


def check_teacher(found: SavedRun, data: DataSets) -> Tensor | None:
    """For each class of the data, the network's output for it; None if they are in the same order. Raises ConfigError
    if the network knows other classes or sees other channels, or the data cannot show whole images."""
    inputs, trained = read_inputs(found), found.checkpoint.class_ids or ()
    spec = Spec(**{field.name: inputs[field.name] for field in fields(Spec)})
    if data.whole is None or not data.checksum:
        raise ConfigError("data: this data set does not give its whole training images (DataSets.whole)")
    if (spec.classes, spec.channels) != (data.spec.classes, data.spec.channels):
        raise ConfigError(
            f"data: found {data.spec.classes} classes and {data.spec.channels} channels; {found.name} was trained on "
            f"{spec.classes} and {spec.channels}"
        )
    if trained and data.class_ids and trained != data.class_ids:
        return torch.tensor(match_classes(data.class_ids, trained, "data", "the network"))
    return None


def _check_mean(dense: Tensor, scores: Tensor) -> None:
    """The mean over cells has to be the network's own logits, or something stands between the pool and the layer."""
    off, span = (dense.mean((2, 3)) - scores).abs().max(), scores.abs().max().clamp(min=1.0)
    if float(off / span) > _ROUNDING:
        raise ConfigError(
            f"the mean of the classifier over all places is {float(off):.3g} off the network's own logits; label maps "
            "need a network whose classifier is one linear layer on a global average pool"
        )


def recipe_id(found: SavedRun) -> str:
    return found.recipe.id if found.export is None else found.export.name


def _name_device(place: DeviceContext) -> str:
    return torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else place.device.type


def _cost_of_training(found: SavedRun) -> dict[str, Any]:
    """What is on record of the teacher's own training: seconds of steps, and their number; {} of an export."""
    metrics = found.summary.get("metrics", {})
    known = {key: metrics[key] for key in ("time/train_s",) if key in metrics}
    return {**known, **({"step": found.checkpoint.step} if found.export is None else {})}

"""Every evaluator on one network whose outputs are the same numbers in any batch, to compare processes bit for bit.

Convolutions give other bits for other batch sizes; this network only picks pixels and multiplies them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from helpers.generating import NoisyClasses, PickedFeatures
from paribus.core.batch import Batch
from paribus.core.build import build
from paribus.core.evaluation import Findings, make_context
from paribus.core.protocols import DeviceContext
from paribus.data.synthetic import Synthetic
from paribus.engine.distributed import World
from paribus.engine.evaluate import check_method, evaluate
from paribus.methods.evaluated import PlainNetwork

# by name, its config; a new evaluator adds its line. 51 test images and 20 held out, 3×8×8, 10 classes.
EVALUATORS = {
    "calibration": {"_target_": "paribus.evaluators.calibration.Calibration", "batch_size": 7},
    "per_class": {"_target_": "paribus.evaluators.per_class.PerClass", "batch_size": 7},
    "groups": {"_target_": "paribus.evaluators.groups.Groups", "batch_size": 7},
    "ood": {
        "_target_": "paribus.evaluators.ood.OutOfDistribution",
        "noise_images": 30,
        "sets": {"others": {"_target_": "paribus.data.synthetic.Synthetic", "size": 8, "noise": 9.0, "val_n": 33}},
        "batch_size": 7,
    },
    "occlusion": {"_target_": "paribus.evaluators.occlusion.Occlusion", "batch_size": 7},
    "pixel_ap": {"_target_": "paribus.evaluators.pixel_ap.PixelAP", "batch_size": 7},
    "erased": {"_target_": "paribus.evaluators.erased.ErasedPixels", "percent": [10, 40], "limit": 40, "batch_size": 7},
    "in_between": {"_target_": "paribus.evaluators.in_between.InBetween", "limit": 40, "batch_size": 7},
    "attack": {
        "_target_": "paribus.evaluators.attack.AccuracyUnderAttack",
        "epsilon": [2.0, 8.0],
        "steps": 2,
        "limit": 40,
        "batch_size": 7,
    },
    "corruptions": {
        "_target_": "paribus.evaluators.corruptions.Corruptions",
        "kinds": ["gaussian_noise", "glass_blur", "jpeg_compression"],
        "severities": [1, 5],
        "limit": 50,
        "batch_size": 7,
    },
    "fid": {"_target_": "paribus.evaluators.fid.Fid", "features": PickedFeatures(), "batch_size": 7},
    "samples": {"_target_": "paribus.evaluators.samples.SampleGrid", "rows": 3, "batch_size": 7},
}


class PickedPixels(nn.Module):
    """(n, c, h, w) to (n, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + torch.arange(10) / 7)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, 5 : 5 + 10 * 17 : 17] * self.scale

    def attribute(self, inputs: Tensor, classes: Tensor) -> Tensor:
        """(n, 4, 4): every other pixel."""
        return inputs[:, 0, ::2, 1::2] * self.scale[classes][:, None, None]


class Picking(PlainNetwork):
    """A method that has trained already, and that also generates."""

    conditional = True

    def prepare_eval(self) -> None: ...

    def sample(self, ids: Tensor, seed: int, classes: Tensor | None = None) -> Tensor:
        return NoisyClasses(conditional=True).sample(ids, seed, classes)


def evaluate_exactly(world: World) -> Findings:
    """What all evaluators find, this process being one of the world's."""
    place = DeviceContext(torch.device("cpu"), rank=world.rank, world=world.size)
    data = Synthetic(size=8, n=100, val_n=51, minival=20, groups=3)(place)
    evaluators = {name: build(config, name) for name, config in EVALUATORS.items()}
    context, method = make_context(data, place), Picking(PickedPixels())
    check_method(method, evaluators, context)
    splits = {name: partial(_with_masks, split) for name, split in data.splits.items()}
    return evaluate(method, evaluators, splits, context)  # type: ignore[arg-type]


def _with_masks(split: Callable[[int], Iterable[Batch]], batch_size: int) -> Iterator[Batch]:
    """The images of a set that has no masks, with some: their pixels that are bright in the second channel."""
    for batch in split(batch_size):
        yield replace(batch, also={**batch.also, "mask": batch.inputs[:, 1] > 0.8})

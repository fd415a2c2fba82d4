"""Where a network looks: boxes from class activation maps, against the boxes of the objects.

Zhou et al. 2016 (arXiv 1512.04150) made boxes of class activation maps, CutMix is evaluated so (arXiv 1905.04899), and
Choe et al. 2020 (arXiv 2001.07437) showed that the threshold at which a map becomes a box decides the result, and that
it has to come from a split of its own. Definitions are theirs (MaxBoxAcc at an IoU of 0.5) but for what the comments
say.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torch import nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.capabilities import HasNetwork
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets
from paribus.core.sums import Sums, table_sums
from paribus.evaluators.maps import Of, check_maps, make_maps

Array = np.ndarray[Any, Any]
IOU = 0.5
_KEY = "evaluators.localisation"
# pixels of one component touch, also at corners, as contours of OpenCV do; maps of different thresholds do not
_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]).astype(bool)


def find_boxes(score_map: Array, thresholds: Array) -> Array:
    """(t, 4) float64: for each threshold, the edges x1, y1, x2, y2 of the largest connected part of the map (h, w) that
    is at least the threshold; the first from the top in a tie; NaN where nothing is."""
    h, w = score_map.shape
    boxes = np.full((len(thresholds), 4), np.nan)
    labels, count = cast(Any, ndimage.label)(score_map[None] >= thresholds[:, None, None], _NEIGHBOURS)
    if not count:
        return boxes
    # labels grow with the threshold's place, so the last one at a threshold is the largest so far
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    last = np.maximum.accumulate(labels.reshape(len(labels), -1).max(1))
    first = np.concatenate(([0], last[:-1])) + 1
    chosen = np.array(
        [
            a + int(areas[a : b + 1].argmax()) if b >= a else -1
            for a, b in zip(first.tolist(), last.tolist(), strict=True)
        ]
    )
    inside = labels == chosen[:, None, None]
    across, down = inside.any(1), inside.any(2)
    made = (across.argmax(1), down.argmax(1), w - across[:, ::-1].argmax(1), h - down[:, ::-1].argmax(1))
    there = chosen > 0
    boxes[there] = np.stack(made, 1)[there]
    return boxes


def measure_overlap(boxes: Array, box: Array) -> Array:
    """Intersection over union of boxes (n, 4) with one box (4,); 0 where either is NaN."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = sides.clip(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.nan_to_num(both / (areas - both))


@schema
class Localisation:
    """val/box_acc: share of the images with a box whose box is right: an IoU of at least 0.5 with that of the largest
    part of the class activation map above a threshold. val/box_acc_known_class: box and class are right (top-1
    localisation). val/box_threshold: the threshold, which is the best one of another split. val/max_box_acc: what
    val's own best one would give, as in most publications.

    of: the class whose map is taken, the predicted or the true one. split: what is reported. threshold_split: where the
    threshold is chosen. thresholds: how many, evenly from 0 to 1. at: always, at each evaluation, or once at the end.
    batch_size: samples at a time on one rank.
    """

    of: Of = "predicted"
    split: str = "val"
    threshold_split: str = "minival"
    thresholds: Annotated[int, Field(ge=2, le=1001)] = 101
    at: When = "end"
    batch_size: Annotated[int, Field(ge=1)] = 128

    def __post_init__(self) -> None:
        if self.split == self.threshold_split:
            raise ValueError(
                f"threshold_split is {self.split}, which is reported; a threshold is chosen on another one"
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        names = ("box_acc", "box_acc_known_class", "box_threshold", "max_box_acc")
        return tuple(f"{self.split}/{name}" for name in names)

    @property
    def needs(self) -> tuple[type, ...]:
        """What a method must have."""
        return (HasNetwork,)

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if a split or its boxes are missing."""
        for key, split in (("split", self.split), ("threshold_split", self.threshold_split)):
            if split not in data.splits:
                raise ConfigError(
                    f"{_KEY}.{key}: found {split}; the data has {format_list(data.splits)} (data.minival=N holds out a "
                    "selection split)"
                )
            if "box" not in data.facts.get(split, ()):
                raise _without_boxes(key, split)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError if no map can be made of the network."""
        check_maps(method, context, _KEY)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for key, split in (("threshold_split", self.threshold_split), ("split", self.split)):
            counts = self._count(method.eval_model, splits[split], key, split)
            # (3, thresholds): right boxes; those of images whose class is right too; images with a box
            sums += table_sums(f"{split}/boxes", torch.from_numpy(counts).to(context.place.device))
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        chosen = sums.tables[f"{self.threshold_split}/boxes"].tolist()
        right, both, images = sums.tables[f"{self.split}/boxes"].tolist()
        if not (images[0] and chosen[2][0]):
            return {}
        k = chosen[0].index(max(chosen[0]))  # the lowest of the best ones
        values = (right[k] / images[0], both[k] / images[0], float(self._grid()[k]), max(right) / images[0])
        return dict(zip(self.keys, values, strict=True))

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """Accuracy against threshold, of both splits. At 0 the box is the whole image, whatever the network."""
        grid, made = self._grid().tolist(), dict[str, Any]()
        for split in (self.split, self.threshold_split):
            right, _, images = sums.tables[f"{split}/boxes"].tolist()
            made[f"{split}/box_acc"] = {
                "curve": {
                    "x": grid,
                    "y": [n / max(images[0], 1) for n in right],
                    "x_label": "threshold of the map",
                    "y_label": "share of images with IoU of 0.5 and more",
                }
            }
        return made

    def _grid(self) -> Array:
        return np.arange(self.thresholds) / (self.thresholds - 1)

    def _count(self, model: nn.Module, batches: Callable[[int], Iterable[Batch]], key: str, split: str) -> Array:
        """(3, thresholds) int64, as in `__call__`. Components are labelled on the host, a batch at a time."""
        grid = self._grid()
        counts = np.zeros((3, len(grid)), np.int64)
        for batch in batches(self.batch_size):
            if "box" not in batch.also:
                raise _without_boxes(key, split)
            if not len(batch):
                continue
            scores, maps = make_maps(model, batch, self.of)
            is_right_class = (scores.argmax(1) == batch.targets).cpu().numpy()
            shown = zip(
                maps.cpu().numpy(),
                batch.also["box"].double().cpu().numpy(),
                is_right_class.tolist(),
                strict=True,
            )
            for score_map, box, knows in shown:
                if not np.isnan(box).any():
                    is_right = measure_overlap(find_boxes(score_map, grid), box) >= IOU
                    counts += np.stack([is_right, is_right & knows, np.ones_like(is_right)])
        return counts


def _without_boxes(key: str, split: str) -> ConfigError:
    return ConfigError(
        f"{_KEY}.{key}: found {split}; its images have no boxes; a tree of images has them with a boxes.csv "
        "(docs/data.md, Boxes), and its pack after another `paribus data prepare`"
    )

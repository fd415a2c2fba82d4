"""How much a network relies on the background: objects before the backgrounds of other images.

After the backgrounds challenge of Xiao et al. 2020 (arXiv 2006.09994): an object stands before the background of an
image of its own class, and before that of an image of another one. What is lost from the one to the other is the gap.
They cut objects out along their outlines; here boxes are all there is, and an object brings what else is in its box.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets, Predicts
from paribus.core.streams import uniform
from paribus.core.sums import Sums
from paribus.evaluators.accuracy import check_splits, rank_targets
from paribus.evaluators.some_images import check_limit, choose_evenly, choose_partners, gather_by_id

_KEY = "evaluators.backgrounds"


class Objects(NamedTuple):
    """Images whose object leaves enough of its background: inputs (n, c, h, w), targets and ids (n,), boxes (n, 4)
    int64, the edges x1, y1, x2, y2."""

    inputs: Tensor
    targets: Tensor
    ids: Tensor
    boxes: Tensor


def round_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """(n, 4) int64: the whole pixels that a box touches, inside the image; 0 for a box of NaN."""
    upper = boxes.new_tensor([width, height, width, height])
    edges = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], 1).nan_to_num(0)
    return torch.minimum(edges.clamp(min=0), upper).long()


def is_inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """(n, height, width) bool: the pixels of each box."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    across, down = (torch.arange(side, device=boxes.device) for side in (width, height))
    return ((down >= y1) & (down < y2))[:, :, None] & ((across >= x1) & (across < x2))[:, None, :]


def remove_objects(inputs: Tensor, boxes: Tensor) -> Tensor:
    """(n, c, h, w) to the same shape: in each box the largest strip beside it is repeated, which is the whole of the
    image to the left or right of it, above or below. A box that leaves no strip stays."""
    n, channels, height, width = inputs.shape
    down = torch.arange(height, device=inputs.device)[:, None].expand(n, height, width)
    across = torch.arange(width, device=inputs.device).expand(n, height, width)
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    # of each strip: where it begins, and how long it is across its edge
    starts, lengths = (torch.zeros_like(x1), x2, torch.zeros_like(y1), y2), (x1, width - x2, y1, height - y2)
    areas = torch.cat([lengths[0] * height, lengths[1] * height, lengths[2] * width, lengths[3] * width], 1)
    best = areas.flatten(1).argmax(1)[:, None, None]
    for strip, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        moved, is_best = (across, down)[strip // 2], best == strip
        repeated = start + (moved - start) % length.clamp(min=1)
        source = torch.where(is_best & (length > 0) & is_inside(boxes, height, width), repeated, moved)
        across, down = (source, down) if strip < 2 else (across, source)
    at = (down * width + across).flatten(1)[:, None, :].expand(n, channels, height * width)
    return inputs.flatten(2).gather(2, at).view_as(inputs)


@schema
class ExchangedBackgrounds:
    """val/background_same, val/background_other: accuracy, 0–1, on objects before the background of another image of
    their class, and of an image of another class. val/background_gap: the first less the second, which is what the
    background is worth to the network. val/background_own: accuracy on the same images as they are.

    splits: val, minival or both; their images need boxes. largest: images whose box is at most this fraction of the
    image take part, as objects and as backgrounds. draws: backgrounds of either kind for each object. limit: at most
    this many images, evenly spaced in the split, before those with larger boxes are left out; all are held on every
    rank. seed: of backgrounds. batch_size: samples at a time on one rank. at: end, after the last step, or always.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    largest: Annotated[float, Field(gt=0, lt=1)] = 0.5
    draws: Annotated[int, Field(ge=1)] = 4
    limit: Annotated[int, Field(ge=2)] = 1000
    seed: int = 0
    batch_size: Annotated[int, Field(ge=1)] = 512
    at: When = "end"

    needs: ClassVar[tuple[type, ...]] = (Predicts,)

    @property
    def keys(self) -> tuple[str, ...]:
        kinds = ("own", "same", "other", "gap")
        return tuple(f"{split}/background_{kind}" for split in self.splits for kind in kinds)

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if a split or its boxes are missing."""
        for split in self.splits:
            if split not in data.splits:
                raise ConfigError(f"{_KEY}.splits: found {split}; the data has {format_list(data.splits)}")
            if "box" not in data.facts.get(split, ()):
                raise ConfigError(
                    f"{_KEY}.splits: found {split}; its images have no boxes; a tree of images has them with a "
                    "boxes.csv (docs/data.md, Boxes), and its pack after another `paribus data prepare`"
                )

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError for a split of unknown size."""
        check_limit("backgrounds", self.limit, self.splits, context, always=True)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for split in self.splits:
            chosen = choose_evenly(splits, split, self.batch_size, self.limit, context)
            own, same, other, images = self._count_hits(method, self._gather(chosen, context.gather), context)
            name = f"{split}/background"
            sums += Sums({f"{name}_own": own}, {f"{name}_own": images})
            found = {"same": same, "other": other, "gap": same - other}
            for kind, hits in found.items():
                sums += Sums({f"{name}_{kind}": hits}, {f"{name}_{kind}": images * self.draws})
        return sums

    def _gather(self, batches: Iterable[Batch], gather: Callable[[Tensor], Tensor]) -> Objects:
        parts = ((batch.inputs, batch.targets, batch.also["box"].double(), batch.ids) for batch in batches)
        inputs, targets, boxes, ids = gather_by_id(parts, gather)
        height, width = inputs.shape[2:]
        edges = round_boxes(boxes, height, width)
        area = (edges[:, 2] - edges[:, 0]).clamp(min=0) * (edges[:, 3] - edges[:, 1]).clamp(min=0)
        takes_part = (area > 0) & (area <= self.largest * height * width)
        return Objects(inputs[takes_part], targets[takes_part], ids[takes_part], edges[takes_part])

    def _count_hits(self, method: Predicts, objects: Objects, context: EvaluationContext) -> Tensor:
        """(4,) int64: hits on this rank's images as they are, before backgrounds of their class and of another class,
        and how many images there are. Images are every world-th of all that have a partner of either kind."""
        inputs, targets, ids, boxes = objects
        drawn = [uniform(self.seed, f"backgrounds.{kind}", 0, ids, self.draws) for kind in ("same", "other")]
        partners = torch.stack(
            [choose_partners(targets, drawn[k][:, d], same_class=k == 0) for k in range(2) for d in range(self.draws)]
        )  # (2 · draws, n)
        place = context.place
        paired = (partners >= 0).all(0).nonzero()[:, 0][place.rank :: place.world]
        counts = torch.zeros(4, dtype=torch.int64, device=inputs.device)
        for here in paired.split(self.batch_size) if len(paired) else ():
            inside = is_inside(boxes[here], *inputs.shape[2:])[:, None]

            def count(images: Tensor, here: Tensor = here) -> Tensor:
                return (rank_targets(method.predict(images), targets[here]) < 1).sum()

            counts[0] += count(inputs[here])
            for row, partner in enumerate(partners[:, here]):
                backgrounds = remove_objects(inputs[partner], boxes[partner])
                counts[1 + row // self.draws] += count(torch.where(inside, inputs[here], backgrounds))
        counts[3] = len(paired)
        return counts

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """How many images took part."""
        counts = {split: int(sums.counts[f"{split}/background_own"]) for split in self.splits}
        return {f"{split}/images": {"text": f"{count} images took part"} for split, count in counts.items()}

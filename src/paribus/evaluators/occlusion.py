"""Accuracy on images of which a part is hidden: a square at the centre, or all but that square.

Occluded pixels become 0 as inputs, which is the mean of the training images, so no contrast is added but the edge. Both
families run from the whole image to none of it: at side 0 nothing is hidden at the centre, and everything around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, metric_sums, table_sums
from paribus.evaluators.accuracy import check_splits, rank_targets
from paribus.evaluators.some_images import check_limit, choose_evenly

KINDS = ("center", "border")
Box = tuple[int, int]  # height and width, pixels


def centre_square(height: int, width: int, box: Box, device: torch.device) -> Tensor:
    """(height, width) bool: true inside the box at the centre; a row or column that is left over is below or right."""
    lines: list[Tensor] = []
    for side, inside in zip((height, width), box, strict=True):
        first, at = (side - inside) // 2, torch.arange(side, device=device)
        lines.append((at >= first) & (at < first + inside))
    return lines[0][:, None] & lines[1]


def occlude(inputs: Tensor, kind: str, box: Box) -> Tensor:
    """(n, c, h, w) to the same shape, with 0 inside the box ("center") or outside of it ("border")."""
    height, width = inputs.shape[2:]
    inside = centre_square(height, width, box, inputs.device)
    return inputs.masked_fill(inside if kind == "center" else ~inside, 0.0)


def side_fractions(sides: int | tuple[float, ...]) -> tuple[float, ...]:
    """From 0 to the whole image in `sides` equal steps, or those that are listed."""
    return tuple(k / sides for k in range(sides + 1)) if isinstance(sides, int) else sides


def _check_sides(sides: int | tuple[float, ...]) -> int | tuple[float, ...]:
    if isinstance(sides, tuple) and (list(sides) != sorted(set(sides)) or not sides or sides[0] < 0 or sides[-1] > 1):
        raise ValueError("should be a number of steps, or rising fractions from 0 to 1, such as [0, 0.25, 0.5]")
    return sides


@schema
class Occlusion:
    """val/occlusion_center, val/occlusion_border: top-1 accuracy, averaged over the sides, each of which counts alike:
    the height of the curve, 0–1. The curves are in the details.

    splits: val, minival or both. sides: into how many steps the way from 0 to the whole image is divided, or the sides
    themselves as fractions of the image's; a side is rounded to whole pixels. limit: at most this many images, evenly
    spaced in the split; null: all. batch_size: samples at a time on one rank. at: end, after the last step, or always.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    sides: Annotated[Annotated[int, Field(ge=1)] | tuple[float, ...], AfterValidator(_check_sides)] = 8
    limit: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 512
    at: When = "end"

    needs: ClassVar[tuple[type, ...]] = (Predicts,)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{split}/occlusion_{kind}" for split in self.splits for kind in KINDS)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        """Raises ConfigError for a limit on a split of unknown size."""
        check_limit("occlusion", self.limit, self.splits, context)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        fractions, sums = side_fractions(self.sides), Sums()
        for split in self.splits:
            for batch in choose_evenly(splits, split, self.batch_size, self.limit, context):
                counts = _BatchCounts(method, batch)
                for kind in KINDS:
                    hits = torch.stack([counts.hits(kind, fraction) for fraction in fractions])
                    sums += metric_sums(f"{split}/occlusion_{kind}", hits.sum(), len(batch) * len(fractions))
                    sums += table_sums(f"{split}/{kind}", hits)
        return sums

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        return dict(self._curves(sums))

    def _curves(self, sums: Sums) -> Iterator[tuple[str, Any]]:
        fractions = side_fractions(self.sides)
        for split in self.splits:
            for kind, what in zip(KINDS, ("hidden", "shown"), strict=True):
                images = int(sums.counts[f"{split}/occlusion_{kind}"]) // len(fractions)
                hits = sums.tables[f"{split}/{kind}"].tolist()
                yield (
                    kind if split == "val" else f"{split}/{kind}",
                    {
                        "curve": {
                            "x": list(fractions),
                            "y": [h / images for h in hits] if images else [],
                            "x_label": f"side of the square that is {what}, as a fraction of the image's",
                            "y_label": "top-1 accuracy",
                        }
                    },
                )


@dataclass(frozen=True)
class _BatchCounts:
    """Hits in one batch, each distinct occlusion predicted once: both kinds have the whole image and the empty one."""

    method: Predicts
    batch: Batch
    known: dict[tuple[str, Box], Tensor] = field(default_factory=dict)

    def hits(self, kind: str, fraction: float) -> Tensor:
        """How many images are classified rightly, () int64."""
        height, width = self.batch.inputs.shape[2:]
        box = (round(fraction * height), round(fraction * width))
        if min(box) == 0 or box == (height, width):
            shows_all = (min(box) == 0) == (kind == "center")
            kind, box = "center", (0, 0) if shows_all else (height, width)
        if (kind, box) not in self.known:
            scores = self.method.predict(occlude(self.batch.inputs, kind, box))
            self.known[kind, box] = (rank_targets(scores, self.batch.targets) < 1).sum()
        return self.known[kind, box]

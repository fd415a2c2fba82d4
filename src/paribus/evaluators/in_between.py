"""What a network makes of images between two classes: two test images mixed by pixel (Mixup) or by box (CutMix).

A prediction counts as right if it is either image's class. Pairs are the same for every network, batch size and number
of processes: each of the images, which every rank holds, has a partner of another class, drawn by its id.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.streams import uniform
from paribus.core.sums import Sums, table_sums
from paribus.evaluators.accuracy import check_splits, rank_targets
from paribus.evaluators.some_images import check_limit, choose_evenly, choose_partners, gather_by_id

KINDS = ("mixup", "cutmix")
Images = tuple[Tensor, Tensor, Tensor]  # inputs (n, c, h, w), targets (n,), ids (n,)


def gather_images(batches: Iterable[Batch], gather: Callable[[Tensor], Tensor]) -> Images:
    """The images of all ranks' batches, as they are on every rank, sorted by id."""
    inputs, targets, ids = gather_by_id(((batch.inputs, batch.targets, batch.ids) for batch in batches), gather)
    return inputs, targets, ids


def draw_partners(targets: Tensor, ids: Tensor, seed: int) -> Tensor:
    """The position of each image's partner, uniformly among those of other classes; −1 where there are none. targets,
    ids: (n,), sorted by id."""
    return choose_partners(targets, uniform(seed, "in_between.partner", 0, ids, 1)[:, 0], same_class=False)


def mix_pixels(first: Tensor, second: Tensor, share: float) -> Tensor:
    """share · first + (1 − share) · second; of inputs or of pixels, which is the same mixture."""
    return share * first + (1 - share) * second


def box_size(height: int, width: int, share: float) -> tuple[int, int]:
    """Height and width of a box of the image's form that leaves about this share of it outside, in whole pixels."""
    scale = (1 - share) ** 0.5
    return round(scale * height), round(scale * width)


def cut_mix(first: Tensor, second: Tensor, box: tuple[int, int], drawn: Tensor) -> Tensor:
    """The first images with a box of the second's pixels, the whole box inside the image. drawn: (n, 2) in [0, 1), from
    the upper left place to the lower right one."""
    lines: list[Tensor] = []
    for axis, (side, inside) in enumerate(zip(first.shape[2:], box, strict=True)):
        start = (drawn[:, axis, None].double() * (side - inside + 1)).long()
        at = torch.arange(side, device=first.device)
        lines.append((at >= start) & (at < start + inside))
    return torch.where((lines[0][:, :, None] & lines[1][:, None, :])[:, None], second, first)


@schema
class InBetween:
    """val/in_between_mixup, val/in_between_cutmix: the share of mixtures, 0–1, that are taken for one of their two
    images' classes, averaged over the shares of the mixture, each of which counts alike. Curves are in the details.

    splits: val, minival or both. limit: at most this many images, evenly spaced in the split, are mixed, each with one
    partner among them; all are held on every rank. steps: into how many steps the way from one image to the other is
    divided. seed: of partners and boxes. batch_size: samples at a time on one rank. at: end, after the last step, or
    always.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    limit: Annotated[int, Field(ge=2)] = 1000
    steps: Annotated[int, Field(ge=1)] = 10
    seed: int = 0
    batch_size: Annotated[int, Field(ge=1)] = 512
    at: When = "end"

    needs: ClassVar[tuple[type, ...]] = (Predicts,)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{split}/in_between_{kind}" for split in self.splits for kind in KINDS)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        if context.spec.classes < 3:
            raise ConfigError(
                f"evaluators.in_between: the data has {context.spec.classes} classes, of which every prediction is one "
                "of the two; it needs three at least: evaluators.in_between=null leaves it out"
            )
        check_limit("in_between", self.limit, self.splits, context, always=True)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for split in self.splits:
            chosen = choose_evenly(splits, split, self.batch_size, self.limit, context)
            images = gather_images(chosen, context.gather)
            hits, pairs = self._count_hits(method, images, context)
            for row, kind in zip(hits, KINDS, strict=True):
                key = f"{split}/in_between_{kind}"
                sums += Sums({key: row.sum()}, {key: pairs * len(row)}) + table_sums(f"{split}/{kind}", row)
        return sums

    def _count_hits(self, method: Predicts, images: Images, context: EvaluationContext) -> tuple[Tensor, Tensor]:
        """(kinds, shares) int64 and how many pairs there are, over this rank's pairs, every world-th of all."""
        inputs, targets, ids = images
        height, width = inputs.shape[2:]
        partners = draw_partners(targets, ids, self.seed)
        boxes = uniform(self.seed, "in_between.box", 0, ids, 2)
        shares, place = self._shares(), context.place
        hits = torch.zeros(len(KINDS), len(shares), dtype=torch.int64, device=inputs.device)
        mine = torch.arange(place.rank, len(ids), place.world, device=inputs.device)
        for here in mine.split(self.batch_size):
            other, exists = partners[here].clamp(min=0), partners[here] >= 0
            first, second = inputs[here], inputs[other]
            for k, share in enumerate(shares):
                cut = cut_mix(first, second, box_size(height, width, share), boxes[here])
                for row, mixed in zip(hits, (mix_pixels(first, second, share), cut), strict=True):
                    scores = method.predict(mixed)
                    is_hit = [rank_targets(scores, targets[which]) < 1 for which in (here, other)]
                    row[k] += ((is_hit[0] | is_hit[1]) & exists).sum()
        return hits, (partners[mine] >= 0).sum()

    def _shares(self) -> list[float]:
        """Of the first image: 0, where only the second is seen, to 1."""
        return [k / self.steps for k in range(self.steps + 1)]

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        curves: dict[str, Any] = {}
        for split in self.splits:
            for kind in KINDS:
                pairs = int(sums.counts[f"{split}/in_between_{kind}"]) // (self.steps + 1)
                curves[kind if split == "val" else f"{split}/{kind}"] = {
                    "curve": {
                        "x": self._seen_shares(kind, context),
                        "y": [h / pairs for h in sums.tables[f"{split}/{kind}"].tolist()] if pairs else [],
                        "x_label": "share of the first image",
                        "y_label": "predictions that are either image's class",
                    }
                }
        return curves

    def _seen_shares(self, kind: str, context: EvaluationContext) -> list[float]:
        """As they came out, for boxes are of whole pixels."""
        if kind == "mixup":
            return self._shares()
        height, width = context.spec.height, context.spec.width
        boxes = [box_size(height, width, share) for share in self._shares()]
        return [1 - h * w / (height * width) for h, w in boxes]

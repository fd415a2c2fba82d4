"""Accuracy on corrupted images: noise, blur, weather and the like, made here from the images of a split.

Hendrycks & Dietterich 2019 (arXiv 1903.12261) made ImageNet-C and CIFAR-10-C so. Their parameters are taken; the
random numbers are the evaluator's own, so the images are not theirs, pixel by pixel (docs/evaluation.md). Their files
are read as data: `paribus eval RUN data=cifar10_c`, `data.root=TREE`.
"""

from typing import Annotated, Any, ClassVar

import PIL
import torch
from PIL import features
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.batch import Batch
from paribus.core.build import did_you_mean, schema
from paribus.core.errors import ConfigError
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, metric_sums, table_sums
from paribus.evaluators.accuracy import check_splits, rank_targets
from paribus.evaluators.corruption_kinds.corrupt import FURTHER_KINDS, LEFT_OUT, PAPER_KINDS, corrupt
from paribus.evaluators.some_images import check_limit, choose_evenly


def _check_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    known = [*PAPER_KINDS, *FURTHER_KINDS]
    for kind in kinds:
        if kind in LEFT_OUT:
            raise ValueError(f"{kind} is left out: {LEFT_OUT[kind]}")
        if kind not in known:
            raise ValueError(f"there is no {kind}{did_you_mean(kind, known)}; there are {', '.join(known)}")
    return _check_unique(kinds)


def _check_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("should name one at least; evaluators.NAME=null leaves the evaluator out")
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]} is listed twice")
    return values


@schema
class Corruptions:
    """corrupted_acc: top-1 accuracy on corrupted images, the mean over kinds and severities, and corrupted_acc_KIND.

    splits: val, minival or both. kinds: of corruption; speckle_noise, gaussian_blur and saturate are there too, frost
    is not, since it needs photographs. severities: of 1 to 5. batch_size: samples at a time on one rank. seed: of the
    random numbers. limit: at most this many images, evenly spaced in the split; null: all. at: always, or end: once,
    after the last step.

    One forward pass an image for each kind and severity, 70 by default.
    """

    needs: ClassVar[tuple[type, ...]] = (Predicts,)
    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    kinds: Annotated[tuple[str, ...], AfterValidator(_check_kinds)] = (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "fog",
        "brightness",
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    )
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], AfterValidator(_check_unique)] = (
        1,
        2,
        3,
        4,
        5,
    )
    batch_size: Annotated[int, Field(ge=1)] = 512
    seed: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    at: When = "end"

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        names = ("corrupted_acc", *(f"corrupted_acc_{kind}" for kind in self.kinds))
        return tuple(f"{split}/{name}" for split in self.splits for name in names)

    def check_method(self, method: Any, context: EvaluationContext) -> None:
        if context.spec.channels not in (1, 3):
            raise ConfigError(
                f"evaluators.corruptions: found images of {context.spec.channels} channels; the corruptions are known "
                "for grey (1) and RGB (3)"
            )
        check_limit("corruptions", self.limit, self.splits, context)

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for split in self.splits:
            for batch in choose_evenly(splits, split, self.batch_size, self.limit, context):
                sums += self._measure_batch(method, split, batch, context)
        return sums

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        """For each kind the accuracy by severity; and which library compressed to JPEG."""
        found: dict[str, Any] = {}
        for split in self.splits:
            hits, n = sums.tables[f"{split}/corrupted_hits"].double(), int(sums.tables[f"{split}/corrupted_images"])
            for kind, row in zip(self.kinds, (hits / max(1, n)).tolist(), strict=True):
                name = kind if split == "val" else f"{split}/{kind}"
                found[name] = {
                    "curve": {
                        "x": list(self.severities),
                        "y": row,
                        "x_label": f"severity of {kind}",
                        "y_label": "top-1 accuracy",
                    }
                }
        return {**found, "jpeg": {"versions": {"Pillow": PIL.__version__, "library": features.version("jpg") or ""}}}

    def _measure_batch(self, method: Predicts, split: str, batch: Batch, context: EvaluationContext) -> Sums:
        inputs, n = batch.inputs, len(batch.inputs)
        # images are stored with 8 bits; what rounding errors the normalisation has left goes here
        pixels = (context.to_pixels(inputs.float()) * 255).round().clamp(0, 255).to(torch.uint8)
        rows: list[Tensor] = []
        for kind in self.kinds:
            hits: list[Tensor] = []
            for severity in self.severities:
                corrupted = corrupt(kind, severity, pixels, batch.ids, self.seed)
                given = context.to_inputs(corrupted.to(inputs.dtype) / 255)
                given = given.contiguous(memory_format=context.place.memory_format)
                hits.append((rank_targets(method.predict(given), batch.targets) < 1).sum())
            rows.append(torch.stack(hits))
        table = torch.stack(rows)
        sums = table_sums(f"{split}/corrupted_hits", table)
        sums += table_sums(f"{split}/corrupted_images", torch.full((), n, dtype=torch.int64, device=table.device))
        sums += metric_sums(f"{split}/corrupted_acc", table.sum(), n * table.numel())
        for kind, row in zip(self.kinds, table, strict=True):
            sums += metric_sums(f"{split}/corrupted_acc_{kind}", row.sum(), n * len(row))
        return sums

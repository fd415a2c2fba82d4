"""An evaluator that uses every part of the contract, as one of a user's package may (core/evaluation.py)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, gather_samples, metric_sums, table_sums


@dataclass(frozen=True)
class ClassCounts:
    """val/hits: a mean. val/classes: how many classes were predicted, from a table. val/last: what was predicted for
    the sample of the largest id, from gathered samples."""

    needs: ClassVar[tuple[type, ...]] = (Predicts,)
    at: When = "always"
    batch_size: int = 512

    @property
    def keys(self) -> tuple[str, ...]:
        return ("val/hits", "val/classes", "val/last")

    def __call__(self, method: Any, splits: Splits, context: EvaluationContext) -> Sums:
        sums = Sums()
        for batch in splits["val"](self.batch_size):
            predicted = method.predict(batch.inputs).argmax(1)
            counts = torch.zeros(context.spec.classes, dtype=torch.int64).index_add_(
                0, predicted, torch.ones_like(predicted)
            )
            sums += metric_sums("val/hits", (predicted == batch.targets).sum(), len(predicted))
            sums += table_sums("counts", counts) + gather_samples("predicted", batch.ids, predicted)
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        return {
            "val/classes": float((sums.tables["counts"] > 0).sum()),
            "val/last": float(sums.gathered("predicted")[-1]),
        }

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        return {"counts": {"matrix": [sums.tables["counts"].tolist()]}}

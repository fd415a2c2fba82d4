"""Accuracy class by class, from exact counts of which class was taken for which: a mean over images hides a class that
is rare, or never recognised."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.protocols import Predicts
from paribus.core.sums import Sums, table_sums
from paribus.evaluators.accuracy import check_splits
from paribus.evaluators.confusion import count_confusion

MOST_IN_MATRIX = 200  # classes; the JSON of more would be tens of MB (`paribus eval --confusion` writes it as CSV)


@schema
class PerClass:
    """balanced_acc (mean of the classes' accuracies) and worst_class_acc (the least) on each split. A class without
    images is left out. evaluation.json has the accuracy of each class and, up to 200 classes, the confusion matrix.

    splits: val, minival or both. at: always, or end: after the last step alone. batch_size: samples at a time on one
    rank.
    """

    splits: Annotated[tuple[str, ...], AfterValidator(check_splits)] = ("val",)
    at: When = "always"
    batch_size: Annotated[int, Field(ge=1)] = 512

    @property
    def needs(self) -> tuple[type, ...]:
        return (Predicts,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are measured, against which a study's plan is checked."""
        return tuple(f"{split}/{name}" for split in self.splits for name in ("balanced_acc", "worst_class_acc"))

    def __call__(self, method: Predicts, splits: Splits, context: EvaluationContext) -> Sums:
        """Waits for the device once a split, to see that no score is NaN. Raises RunFailed if one is."""
        sums, classes, device = Sums(), context.spec.classes, context.place.device
        for split in self.splits:
            sums += table_sums(split, count_confusion(method, splits[split](self.batch_size), classes, device))
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        found: dict[str, float] = {}
        for split in self.splits:
            if shares := [share for share in list_accuracies(sums.tables[split]) if share is not None]:
                found[f"{split}/balanced_acc"] = sum(shares) / len(shares)
                found[f"{split}/worst_class_acc"] = min(shares)
        return found

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        classes = context.spec.classes
        names = list(context.names or map(str, range(classes)))
        made: dict[str, Any] = {}
        for split in self.splits:
            accuracies = list_accuracies(sums.tables[split])
            made[f"{split}/accuracy"] = {"matrix": {"labels": names, "rows": [accuracies]}}
            if classes <= MOST_IN_MATRIX:
                made[f"{split}/confusion"] = {"matrix": {"labels": names, "rows": sums.tables[split].tolist()}}
        return made


def list_accuracies(confusion: Tensor) -> list[float | None]:
    """Of each class, the share of its images that were recognised; None without images. confusion: (classes, classes)
    int64, a row for each true class."""
    images, correct = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    return [k / n if n else None for k, n in zip(correct, images, strict=True)]

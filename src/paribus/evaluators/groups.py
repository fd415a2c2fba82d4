"""Are samples of all groups recognised alike? From exact counts of who was recognised, by class and group.

Equalised odds (Hardt, Price & Srebro 2016, arXiv 1610.02413) ask that among the samples of a class each group is
recognised equally often. The difference of equalised odds (ΔDEO) of a class is the largest such rate less the least.
"""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext, Splits, When
from paribus.core.formatting import format_list
from paribus.core.protocols import DataSets, Predicts
from paribus.core.sums import Sums, gather_samples
from paribus.evaluators.accuracy import check_splits

_KEY = "evaluators.groups"
_GROUP = "group"


@schema
class Groups:
    """deo_max and deo_mean (the largest of the classes' differences of equalised odds, and their mean), worst_group_acc
    and worst_cell_acc (the least accuracy of a group, and of a class and group) on each split. evaluation.json has the
    accuracy and the number of samples of each class and group.

    A class of which fewer than two groups have samples has no difference, and an empty cell no accuracy; samples of
    unknown group (-1) count nowhere.

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
        names = ("deo_max", "deo_mean", "worst_group_acc", "worst_cell_acc")
        return tuple(f"{split}/{name}" for split in self.splits for name in names)

    def check_data(self, data: DataSets) -> None:
        """Raises ConfigError if the samples of a split have no groups."""
        for split in self.splits:
            if _GROUP not in data.facts.get(split, ()):
                raise ConfigError(
                    f"{_KEY}.splits: found {split}, whose samples have no group (Batch.also has "
                    f"{format_list(data.facts.get(split, ())) or 'nothing'}); evaluators.groups=null leaves the "
                    "evaluator out"
                )

    def __call__(self, method: Predicts, splits: Splits, context: EvaluationContext) -> Sums:
        """Waits for the device once a batch, to see that no score is NaN. Raises RunFailed if one is."""
        sums = Sums()
        for split in self.splits:
            for batch in splits[split](self.batch_size):
                scores = method.predict(batch.inputs)
                if n := int(scores.isnan().any(1).sum().item()):
                    raise RunFailed(f"the network's outputs are NaN for {n:,} images, which are of no class then")
                right = (scores.argmax(1) == batch.targets).long()
                # by sample, since how many groups there are is known of all ranks' samples alone
                sums += gather_samples(split, batch.ids, torch.stack((batch.targets, batch.also[_GROUP], right), 1))
        return sums

    def derived(self, sums: Sums, context: EvaluationContext) -> dict[str, float]:
        found: dict[str, float] = {}
        for split in self.splits:
            cells = count_right(sums.gathered(split), context.spec.classes)
            found |= {f"{split}/{name}": value for name, value in compare_groups(*cells).items()}
        return found

    def details(self, sums: Sums, context: EvaluationContext) -> dict[str, Any]:
        classes = context.spec.classes
        names = list(context.names or map(str, range(classes)))
        made: dict[str, Any] = {}
        for split in self.splits:
            right, seen = (cells.tolist() for cells in count_right(sums.gathered(split), classes))
            rates = [
                [k / n if n else None for k, n in zip(*rows, strict=True)] for rows in zip(right, seen, strict=True)
            ]
            # a row for each group, a column for each class
            made[f"{split}/accuracy_of_groups"] = {"matrix": {"labels": names, "rows": _turn(rates)}}
            made[f"{split}/samples_of_groups"] = {"matrix": {"labels": names, "rows": _turn(seen)}}
        return made


def count_right(values: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(classes, groups) int64: how many samples are recognised, and how many there are. values: (n, 3) int64: class,
    group and whether recognised; those of group -1 count nowhere."""
    targets, groups, right = values[values[:, 1] >= 0].cpu().unbind(1)
    count = int(groups.max()) + 1 if len(groups) else 0
    cells = targets * count + groups
    hit, seen = (torch.bincount(cells[w], minlength=classes * count) for w in (right > 0, torch.ones_like(right) > 0))
    return hit.view(classes, count), seen.view(classes, count)


def compare_groups(right: Tensor, seen: Tensor) -> dict[str, float]:
    """The metrics, of (classes, groups) counts; those that have no value are left out."""
    rates = [
        [k / n for k, n in zip(*rows, strict=True) if n] for rows in zip(right.tolist(), seen.tolist(), strict=True)
    ]
    gaps = [max(row) - min(row) for row in rates if len(row) > 1]
    of_groups = [k / n for k, n in zip(right.sum(0).tolist(), seen.sum(0).tolist(), strict=True) if n]
    found = {"deo_max": max(gaps), "deo_mean": sum(gaps) / len(gaps)} if gaps else {}
    if of_groups:
        found |= {"worst_group_acc": min(of_groups), "worst_cell_acc": min(min(row) for row in rates if row)}
    return found


def _turn(rows: list[list[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]

"""From groups that are known of some samples to a group for every sample: what a fair method is given.

Facts come in `Batch.also["group"]`, (n,) int64, -1 where nobody has annotated. A completion is a config class whose
`make` gives what is called in a step. Results are functions of data, seed and step; counts are over all ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from paribus.core.batch import COPY_OFFSET, Batch
from paribus.core.build import schema
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, Slots
from paribus.core.streams import uniform
from paribus.methods.trained import Trained

GROUP = "group"  # the fact that is completed


@dataclass(frozen=True)
class CompletedGroups:
    """groups: (n,) int64, of every sample. weights: (n,), 0 for a sample that is left out; their mean over the global
    batch is 1."""

    groups: Tensor
    weights: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Completer(Protocol):
    """What completes the groups of a run's batches."""

    def complete(self, batch: Batch, at: Progress, factor: float) -> CompletedGroups:
        """batch: before any transform. factor: of the schedule, for what is trained here."""
        ...

    def parts(self) -> Mapping[str, Trained]: ...

    def prepare_eval(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Completion(Protocol):
    """A config class that makes a completer. groups: how many there are."""

    def make(self, slots: Slots, workshop: BuildContext, groups: int) -> Completer: ...


def to_class_ids(targets: Tensor) -> Tensor:
    """(n,) int64: the classes; of mixed targets those of the largest share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def one_hot(ids: Tensor, k: int) -> Tensor:
    """(n,) int64 to (n, k) float64; a row of zeros for -1."""
    return (ids[:, None] == torch.arange(k, device=ids.device)).double()


def count_cells(classes: Tensor, groups: Tensor, shape: tuple[int, int], weights: Tensor | None = None) -> Tensor:
    """(classes, groups) float64: how many samples there are of each class and group, exactly; those of group -1 count
    nowhere. weights: (n,), None for 1 each."""
    rows = one_hot(classes, shape[0])
    return (rows if weights is None else rows * weights.double()[:, None]).T @ one_hot(groups, shape[1])


def draw_groups(counts: Tensor, classes: Tensor, ids: Tensor, seed: int) -> Tensor:
    """(n,) int64: each sample's group drawn from the shares of the groups in its class, the same in every epoch.

    counts: (classes, groups) float64; a class without any is drawn from evenly. classes, ids: (n,) int64.
    """
    k = counts.shape[1]
    total = counts.sum(1, keepdim=True)
    shares = torch.where(total > 0, counts / total.clamp(min=1), 1 / k)
    # a product, since torch has no deterministic cumsum on CUDA
    edges = shares @ torch.ones(k, k - 1, dtype=shares.dtype, device=shares.device).triu()
    drawn = uniform(seed, "fair.groups", 0, ids % COPY_OFFSET, 1).double()  # copies of a sample have its group
    return (drawn >= edges[classes]).sum(1)


def normalise(kept: Tensor, size: int, workshop: BuildContext) -> Tensor:
    """Weights of the samples that are kept, (n,) bool, so that their mean over the global batch of `size` is 1; 0 for
    the others."""
    weights = kept.to(workshop.place.dtype)
    return weights * size / workshop.total(weights.sum()).clamp(min=1)


class Drawing:
    """P̂(group | class) of the annotated samples, counted over the first epoch, and draws from it."""

    def __init__(self, workshop: BuildContext, groups: int) -> None:
        self._total = workshop.total
        self._shape = (workshop.spec.classes, groups)
        self.counts = torch.zeros(self._shape, dtype=torch.float64, device=workshop.place.device)

    def draw(self, batch: Batch, at: Progress) -> Tensor:
        """(n,) int64: a group for each sample, known or not. In the first epoch by what was counted until now."""
        classes = to_class_ids(batch.targets)
        if at.epoch == 0:
            self.counts = self.counts + self._total(count_cells(classes, batch.also[GROUP], self._shape))
        return draw_groups(self.counts, classes, batch.ids, at.seed)


class WithoutClassifier:
    """Unknown groups are drawn, or their samples are left out."""

    def __init__(self, workshop: BuildContext, groups: int, drops: bool) -> None:
        self._workshop, self._drops = workshop, drops
        self._drawing = Drawing(workshop, groups)

    @torch.no_grad()
    def complete(self, batch: Batch, at: Progress, factor: float) -> CompletedGroups:
        given = batch.also[GROUP]
        known = given >= 0
        groups = torch.where(known, given, self._drawing.draw(batch, at))
        if self._drops:
            return CompletedGroups(groups, normalise(known, batch.size, self._workshop))
        return CompletedGroups(groups, torch.ones_like(given, dtype=self._workshop.place.dtype))

    def parts(self) -> dict[str, Trained]:
        return {}

    def prepare_eval(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._drawing.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drawing.counts = state["counts"].to(self._drawing.counts.device)


@schema
class DrawnGroups:
    """An unknown group is drawn from the shares that the annotated samples of its class have, once for each sample."""

    def make(self, slots: Slots, workshop: BuildContext, groups: int) -> Completer:
        return WithoutClassifier(workshop, groups, drops=False)


@schema
class DropUnannotated:
    """Samples of unknown group are left out: they have weight 0, the others as much more."""

    def make(self, slots: Slots, workshop: BuildContext, groups: int) -> Completer:
        return WithoutClassifier(workshop, groups, drops=True)

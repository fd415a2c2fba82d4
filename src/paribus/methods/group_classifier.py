"""A network that is trained to tell the group of a sample, and completes the groups of those that nobody has annotated.

It is trained on the annotated samples in the first epochs, without those that are held back to check it. In the epoch
after them it rests, and what it says of the checked ones is counted, by how sure it is. From then on a group that it is
sure enough of is taken, and the others are drawn, as they all are until then.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from paribus.core.batch import COPY_OFFSET, Batch
from paribus.core.build import schema
from paribus.core.formatting import format_count
from paribus.core.progress import Progress
from paribus.core.protocols import BuildContext, ModelFactory, Slots
from paribus.core.streams import uniform, use_module_stream
from paribus.methods.completion import GROUP, CompletedGroups, Completer, Drawing, normalise, one_hot
from paribus.methods.trained import Trained, make_trained

BINS = 1000  # of the maximum probability, 0 to 1
_WEIGHT = "fair.group_weight"

ChooseLevel = Callable[[Tensor], Tensor]


def to_bins(probabilities: Tensor) -> Tensor:
    """(n, groups) probabilities to the bin of each sample's largest, (n,) int64. In float64, so that the edges are the
    same numbers in every precision of training."""
    return (probabilities.double().amax(1) * BINS).long().clamp(max=BINS - 1)


def count_checked(probabilities: Tensor, given: Tensor, checked: Tensor) -> Tensor:
    """(2, bins) float64: how many of the checked samples are told wrong (0) and right (1), by the bin of the largest
    probability. probabilities: (n, groups). given: (n,) int64. checked: (n,) bool."""
    right = one_hot((probabilities.argmax(1) == given).long(), 2) * checked.double()[:, None]
    counts = torch.zeros(BINS, 2, dtype=torch.float64, device=given.device)
    return counts.index_add_(0, to_bins(probabilities), right).T


class WithClassifier:
    """choose: from the counts of `count_checked` over an epoch to a level, an int64 scalar: a group is taken from the
    classifier where the bin of its probability is not below. learned: whether that depends on the counts."""

    def __init__(
        self,
        slots: Slots,
        workshop: BuildContext,
        groups: int,
        settings: "PseudoLabels",
        choose: ChooseLevel,
        learned: bool,
    ) -> None:
        self._slots, self._workshop, self._settings = slots, workshop, settings
        self._choose, self._learned, self._told = choose, learned, False
        self._drawing = Drawing(workshop, groups)
        factory = settings.classifier or slots.model
        self._h = make_trained(slots, workshop, "groups", lambda spec: factory(replace(spec, classes=groups)))
        device = workshop.place.device
        self._histogram = torch.zeros(2, BINS, dtype=torch.float64, device=device)
        self._nothing = torch.zeros((), dtype=workshop.place.dtype, device=device)
        self._level: Tensor | None = None  # a function of the histogram, once that is complete
        self._warned = False

    def _warn_of_length(self, at: Progress) -> None:
        """Of a run that ends before an answer of the classifier is taken, and so is one with drawn groups."""
        needed = self._settings.group_epochs + 1
        if not self._warned and at.total <= needed * at.steps_per_epoch and self._workshop.place.rank == 0:
            print(
                f"warning: method.completion.group_epochs: found {self._settings.group_epochs}; answers of the group "
                f"classifier are taken after {format_count(needed, 'epoch')}, and this run has "
                f"{at.total / at.steps_per_epoch:.3g}: every unknown group is drawn",
                file=sys.stderr,
            )
        self._warned = True

    def complete(self, batch: Batch, at: Progress, factor: float) -> CompletedGroups:
        self._warn_of_length(at)
        given = batch.also[GROUP]
        known = given >= 0
        drawn = self._drawing.draw(batch, at)
        checked = known & self._is_checked(batch, at)
        phase = at.epoch - self._settings.group_epochs
        loss, kept = self._nothing, torch.zeros_like(known)
        guess = drawn
        if phase < 0:
            loss = self._train(batch, known & ~checked, at, factor)
        else:
            self._rest()
            guess, kept = self._ask(batch, given, known, checked, drawn, phase > 0)
        metrics = {"train/loss_groups": loss, **self._describe(known, kept, phase)}
        return CompletedGroups(
            torch.where(known, given, guess), torch.ones_like(self._nothing).expand(len(batch)), metrics
        )

    def _is_checked(self, batch: Batch, at: Progress) -> Tensor:
        """(n,) bool, by the sample alone. Of those that are annotated, this share is held back."""
        return uniform(at.seed, "fair.checked", 0, batch.ids % COPY_OFFSET, 1)[:, 0] < self._settings.checked

    def _train(self, batch: Batch, learned: Tensor, at: Progress, factor: float) -> Tensor:
        """A step of the classifier on these samples, (n,) bool, with dropout of its own: it goes before the network
        that is compared, whose masks would be others. Returns its loss."""
        self._h.prepare_step(factor)
        weights = normalise(learned, batch.size, self._workshop)

        def loss_of(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            scores = self._h.in_step(part.inputs)
            scores = scores if scores.dtype == torch.float64 else scores.float()
            losses = F.cross_entropy(scores, part.also[GROUP].clamp(min=0), reduction="none")
            return (losses * part.also[_WEIGHT]).mean(), {}

        weighted = replace(batch, also={**batch.also, _WEIGHT: weights})
        place = self._workshop.place
        with use_module_stream(place.device, at.seed, "modules.groups", at.step, place.rank):
            return self._h.step(self._slots.update, loss_of, weighted)["train/loss"]

    def _rest(self) -> None:
        """Evaluation mode, with the buffers of rank 0, and no gradients that nobody follows any more."""
        if self._h.network.training:
            self._workshop.sync(self._h.network)
            self._h.network.eval()
        for parameter in self._h.network.parameters():
            parameter.grad = None

    @torch.no_grad()
    def _ask(
        self, batch: Batch, given: Tensor, known: Tensor, checked: Tensor, drawn: Tensor, is_chosen: bool
    ) -> tuple[Tensor, Tensor]:
        """Groups by the classifier and by draws, (n,) int64, and which of those that are unknown are the classifier's,
        (n,) bool; while it is being checked, draws alone."""
        probabilities = self._h.network(batch.inputs).softmax(1)
        if not is_chosen:
            counts = count_checked(probabilities, given, checked)
            self._histogram = self._histogram + self._workshop.total(counts)
            return drawn, torch.zeros_like(known)
        if self._level is None:
            self._level = self._choose(self._histogram)
        kept = to_bins(probabilities) >= self._level
        return torch.where(kept, probabilities.argmax(1), drawn), kept & ~known

    @torch.no_grad()
    def _describe(self, known: Tensor, kept: Tensor, phase: int) -> dict[str, Tensor]:
        """train/tau: 1, by which nothing is kept, until it is chosen. train/group_kept: share of the batch's unknown
        groups that are the classifier's; 0 where all are known."""
        dtype = self._nothing.dtype
        unknown = self._workshop.total((~known).sum().to(dtype)).clamp(min=1)
        tau = torch.ones_like(self._nothing) if self._level is None or phase < 1 else self._level.to(dtype) / BINS
        return {"train/tau": tau, "train/group_kept": self._workshop.total(kept.sum().to(dtype)) / unknown}

    def parts(self) -> dict[str, Trained]:
        return {"groups": self._h}

    def prepare_eval(self) -> None:
        """The classifier too, since checkpoints are written then; and a threshold that does nothing is told, once."""
        self._workshop.sync(self._h.network)
        self._h.network.eval()
        if self._level is not None and self._learned and not self._told and self._workshop.place.rank == 0:
            self._told = True
            if line := explain_level(self._histogram, int(self._level.item())):
                print(f"warning: method.completion: {line}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._drawing.counts, "histogram": self._histogram}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self._histogram.device
        self._drawing.counts, self._histogram = state["counts"].to(device), state["histogram"].to(device)
        self._level = None


def explain_level(histogram: Tensor, level: int) -> str:
    """In words, if the threshold keeps hardly anything or nearly all of the checked samples; else "". histogram:
    (2, bins), as from `count_checked`."""
    each = histogram.sum(0)
    total = float(each.sum())
    if not total:
        return "no annotated sample is there to choose τ by, so every unknown group is drawn; raise data.annotated"
    share = float(each[level:].sum()) / total
    if share > 0.99:
        return f"τ = {level / BINS:.3f} keeps {share:.1%} of the checked samples: these are pseudo-labels"
    if share < 0.01:
        return f"τ = {level / BINS:.3f} keeps {share:.1%} of the checked samples: these are drawn groups"
    return ""


@schema
class PseudoLabels:
    """Every unknown group is the group classifier's, once it is trained and checked; until then it is drawn.

    group_epochs: how long the classifier is trained; it is checked in the epoch after. checked: share of the annotated
    samples that it is not trained on, as in CGL, which chooses its threshold by them. classifier: the network; null:
    the recipe's, with an output for each group.
    """

    group_epochs: Annotated[int, Field(ge=1)] = 5
    checked: Annotated[float, Field(gt=0, lt=1)] = 0.2
    classifier: ModelFactory | None = None

    def make(self, slots: Slots, workshop: BuildContext, groups: int) -> Completer:
        def take_all(histogram: Tensor) -> Tensor:
            return torch.zeros((), dtype=torch.int64, device=histogram.device)

        return WithClassifier(slots, workshop, groups, self, take_all, learned=False)

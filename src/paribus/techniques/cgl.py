"""CGL: unknown groups come from a group classifier where it is sure enough, and are drawn where it is not.

Jung, Chun & Moon, "Learning Fair Classifiers with Partially Annotated Group Labels", CVPR 2022, arXiv 2111.14581.

    ŝ = argmax_g h_g(x)            where max_g h_g(x) ≥ τ
    ŝ ~ P̂(group | class)           elsewhere, the shares among annotated samples
    τ = the threshold on max_g h_g(x) that tells h's right answers from its wrong ones most often, on annotated samples
        that h was not trained on: the point of greatest accuracy of that ROC curve

What it changes   where a fair method has the groups from that nobody has annotated; the fair learner (label-bias
                  correction, FairHSIC) is the recipe's, and goes on as it would with groups that are all known.
Hyperparameters   a fifth of the annotated samples is held back for τ, and h is a network of the same kind: the paper's.
                  group_epochs = 5: ours, for trainings of 15 epochs. The paper trains h alone, for 50 epochs on tables
                  and 70 on images, on Adult in batches of 1,024; here h sees what is annotated of each batch.
As the authors    the rule, τ and the shares.
Deviations        it is one run: h is trained in the first epochs, τ comes from the epoch after, and only then groups
                  are completed by them. Until then they are drawn, and the network is trained from the first step on:
                  so every arm gives it the same number of steps, and weights that follow drawn groups in the first
                  epochs stay near 1. τ is a multiple of 1/1000; of equal thresholds the largest counts. Which samples
                  are held back is drawn for each by itself, not as an exact fifth of each class and group. h has the
                  plain cross entropy; the authors' code for tables has a focal loss, balanced by class. A draw belongs
                  to the sample, so it has the same group in each epoch.
Cost              h forward and back in the first epochs, and forward once a step from then on.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from paribus.core.build import schema
from paribus.core.protocols import BuildContext, ModelFactory, Slots
from paribus.methods.completion import Completer
from paribus.methods.group_classifier import BINS, PseudoLabels, WithClassifier


def choose_level(histogram: Tensor) -> Tensor:
    """The level k, an int64 scalar, such that calling answers of bin k and above right, and others wrong, is true most
    often; of several the largest. Without a sample it is the number of bins, which keeps nothing.

    histogram: (2, bins) float64: how many answers were wrong (0) and right (1).
    """
    bins = histogram.shape[1]
    bin_, level = (torch.arange(k, device=histogram.device) for k in (bins, bins + 1))
    takes = (bin_[:, None] >= level).to(histogram.dtype)
    # a product, since torch has no deterministic cumsum on CUDA; exact, since counts are whole numbers
    true = histogram[1] @ takes + histogram[0] @ (1 - takes)
    return (true * (bins + 2) + level).argmax()  # argmax alone has no say among equals


@schema
class CGL:
    """group_epochs: how long the group classifier is trained; τ is chosen in the epoch after. checked: share of the
    annotated samples that it is not trained on, by which τ is chosen. threshold: τ, a multiple of 1/1000; null: chosen;
    0 takes every answer (pseudo-labels), 1 none (drawn groups). classifier: the network; null: the recipe's, with an
    output for each group."""

    group_epochs: Annotated[int, Field(ge=1)] = 5
    checked: Annotated[float, Field(gt=0, lt=1)] = 0.2
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    classifier: ModelFactory | None = None

    def make(self, slots: Slots, workshop: BuildContext, groups: int) -> Completer:
        settings = PseudoLabels(group_epochs=self.group_epochs, checked=self.checked, classifier=self.classifier)
        return WithClassifier(slots, workshop, groups, settings, self._choose, learned=self.threshold is None)

    def _choose(self, histogram: Tensor) -> Tensor:
        if self.threshold is None:
            return choose_level(histogram)
        return torch.full((), round(self.threshold * BINS), dtype=torch.int64, device=histogram.device)

"""Losses that bring an image and its caption together, and apart from those of the batch's other pairs.

They are over pairs of the global batch: row i of images belongs to row i of captions, and every other row counts as a
non-match, though a caption may be true of several images. Networks give points of length 1, so that the product of two
is their cosine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.embeddings import Gaussians, MatchedPairs
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Objective

Gathered = Callable[[Tensor], Tensor]


def embed_pairs(model: nn.Module, batch: Batch) -> MatchedPairs:
    """What the network gives for this rank's images and captions, in full precision. Raises ConfigError for data
    without captions and for a network that takes none."""
    if "tokens" not in batch.also:
        raise ConfigError(
            "objective: it matches images with captions, and this data set has none (Batch.also has no tokens); choose "
            "data=shape_captions"
        )
    pairs = model(batch.inputs, batch.also["tokens"])
    if not isinstance(pairs, MatchedPairs):
        raise ConfigError(
            f"model: it gave {type(pairs).__name__} for images and tokens, and the objective needs MatchedPairs "
            "(core/embeddings.py); choose model=two_encoders"
        )
    wide = pairs.images.mean.dtype if pairs.images.mean.dtype.itemsize >= 4 else torch.float32

    def widen(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(wide)

    images, texts = (Gaussians(one.mean.to(wide), widen(one.log_sigma)) for one in (pairs.images, pairs.texts))
    return MatchedPairs(images, texts, *map(widen, pairs[2:]))


def triplet_loss(cosines: Tensor, margin: float, negatives: Literal["all", "hardest"]) -> Tensor:
    """max(0, margin − cos(match) + cos(other)), of captions for each image and of images for each caption, averaged
    over the others (Kiros et al. 2014, arXiv 1411.2539) or of the one that is largest (Faghri et al. 2018, arXiv
    1707.05612). A scalar, the mean over pairs; 0 for a single pair.

    cosines: (n, n), a row for each image.
    """
    n = len(cosines)
    own = cosines.diagonal()
    excess = (margin + torch.stack((cosines - own[:, None], (cosines - own).T))).clamp(min=0)
    excess = excess * (1 - torch.eye(n, dtype=cosines.dtype, device=cosines.device))
    each = excess.amax(2) if negatives == "hardest" else excess.sum(2) / max(n - 1, 1)
    return each.sum(0).mean()


def contrastive_loss(cosines: Tensor, log_temperature: Tensor) -> Tensor:
    """The cross entropy of finding the own caption among all and the own image among all, halved (Radford et al. 2021,
    arXiv 2103.00020). A scalar, the mean over pairs. cosines: (n, n). log_temperature: a scalar; the temperature is
    held at 0.01 or above, as there."""
    logits = cosines / log_temperature.exp().clamp(min=0.01)
    own = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class _CosineLoss(Protocol):
    def loss(self, cosines: Tensor, pairs: MatchedPairs) -> Tensor: ...


@dataclass(frozen=True)
class _OverRanks:
    """A loss of cosines, of the pairs of all ranks."""

    objective: _CosineLoss
    gathered: Gathered

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = embed_pairs(model, batch)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            both = self.gathered(torch.cat((pairs.images.mean, pairs.texts.mean), 1))
            images, texts = both.chunk(2, 1)
            return self.objective.loss(images @ texts.T, pairs), {}


def gather_nothing(value: Tensor) -> Tensor:
    """The rows of all ranks, where there is one."""
    return value


@schema
class Triplet:
    """`triplet_loss`. margin: by which a match should be nearer than a non-match, of cosines. negatives: averaged over
    all non-matches of the batch, or the hardest one alone."""

    margin: Annotated[float, Field(ge=0, le=2)] = 0.2
    negatives: Literal["all", "hardest"] = "all"

    @property
    def couples_samples(self) -> bool:
        return True

    def loss(self, cosines: Tensor, pairs: MatchedPairs) -> Tensor:
        return triplet_loss(cosines, self.margin, self.negatives)

    def over_ranks(self, gathered: Gathered) -> Objective:
        return _OverRanks(self, gathered)

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return _OverRanks(self, gather_nothing)(model, batch, at)


@schema
class Contrastive:
    """`contrastive_loss`, with a temperature that the network learns (model.learns=temperature)."""

    @property
    def couples_samples(self) -> bool:
        return True

    def loss(self, cosines: Tensor, pairs: MatchedPairs) -> Tensor:
        """Raises ConfigError for a network without a temperature."""
        if pairs.log_temperature is None:
            raise ConfigError(
                "objective: Contrastive has a temperature that the network learns, and this one has none; use "
                "model.learns=temperature"
            )
        return contrastive_loss(cosines, pairs.log_temperature)

    def over_ranks(self, gathered: Gathered) -> Objective:
        return _OverRanks(self, gathered)

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return _OverRanks(self, gather_nothing)(model, batch, at)

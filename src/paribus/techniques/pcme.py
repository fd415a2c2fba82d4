"""PCME: an image and a caption become Gaussians, and match with a probability, so that one may match many.

Chun, Oh, Sampaio de Rezende, Kalantidis & Larlus, "Probabilistic Embeddings for Cross-Modal Retrieval", CVPR 2021,
arXiv 2101.05068.

    z = μ + σ ε, ε ~ N(0, I)        p(match | z_i, z_t) = sigmoid(2 (−a ‖z_i − z_t‖ + b))
    p_it = the mean of p(match) over J samples of image i and J of caption t
    loss = Σ over matches of −log p_it + Σ over non-matches of −log(1 − p_it) + β Σ KL(N(μ, σ²) ‖ N(0, I))

What it changes   the objective, and two heads and two numbers of the network: log σ of images and of captions, a and b
                  (model.learns=gaussians). Encoders and the heads of μ, which has length 1, are the recipe's.
Hyperparameters   samples J = 7 and embeddings of 1,024 are the paper's; here J = 5 and 32, for a CPU: a step has
                  J² n² distances. β (kl_weight) = 1e-5 on COCO and 1e-3 on CUB; uniformity = 0 on COCO and 10 on CUB.
                  a and b start at 15 on COCO and at 5 on CUB (model.scale, model.shift).
As the authors    the pairs of a batch that were drawn together match and all others do not, even if a caption happens
                  to be true of another image; all n² pairs count, without choosing negatives; 1e-6 inside the root of
                  the distance; e^s / (e^s + e^−s), which is sigmoid(2 s).
Deviations        the loss is divided by n, as all losses here are means over samples. The authors' code adds two terms
                  for the directions of retrieval which are the same sum; here it is there once, so β and uniformity
                  weigh twice what they do there. Their code draws with exp of a head's output as the deviation and
                  takes the same output for the logarithm of the variance in KL; here it is log σ in both. Uniformity
                  (Wang & Isola 2020) is the mean of exp(−2 d²) over all pairs of samples, where theirs leaves some out
                  of a large batch. Retrieval is by the distance of means, without samples (evaluators/retrieval.py).
Cost              J² n² distances and two heads. Of several processes each computes those of the global batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from paribus.core.batch import Batch
from paribus.core.build import schema
from paribus.core.embeddings import Gaussians
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Objective
from paribus.core.streams import normal
from paribus.methods.matching import embed_pairs, gather_nothing

_INSIDE_ROOT = 1e-6  # a root has no gradient at 0


def match_logits(images: Tensor, texts: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(n, m, J²): s = −a ‖z_i − z_t‖ + b for samples (n, J, d) of images and (m, J, d) of captions."""
    (n, j, _), m = images.shape, len(texts)
    # by differences, not by a matrix product, which loses the distance of points that are near
    apart = torch.cdist(images.flatten(0, 1), texts.flatten(0, 1), compute_mode="donot_use_mm_for_euclid_dist")
    distance = (apart.square() + _INSIDE_ROOT).sqrt()
    return (shift - scale * distance).view(n, j, m, j).transpose(1, 2).reshape(n, m, j * j)


def match_loss(logits: Tensor, matched: Tensor) -> Tensor:
    """(n, m): −log of the mean over samples of p(match), or of p(no match). logits: (n, m, k). matched: (n, m) bool."""
    sign = torch.where(matched, 2.0, -2.0).to(logits.dtype)
    return math.log(logits.shape[2]) - F.logsigmoid(sign[..., None] * logits).logsumexp(2)


def kl_to_standard_normal(mean: Tensor, log_sigma: Tensor) -> Tensor:
    """(n,): KL(N(μ, σ²) ‖ N(0, I)), summed over coordinates. mean, log_sigma: (n, d)."""
    return ((2 * log_sigma).exp() + mean.square() - 1 - 2 * log_sigma).sum(1) / 2


def uniformity(points: Tensor) -> Tensor:
    """The mean of exp(−2 d²) over pairs of different points, (k, d): a scalar, 1 if all are in one place."""
    k = len(points)
    squared = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    return ((-2 * squared).exp().sum() - k) / max(k * (k - 1), 1)


class _Drawn(NamedTuple):
    """mean, log_sigma: (n, d). samples: (n, J, d)."""

    mean: Tensor
    log_sigma: Tensor
    samples: Tensor


@dataclass(frozen=True)
class _PCMELoss:
    settings: "PCME"
    gathered: Callable[[Tensor], Tensor]

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = embed_pairs(model, batch)
        if pairs.scale is None or pairs.shift is None:
            raise ConfigError("technique=pcme: the network has no scale and shift; use model.learns=gaussians")
        with torch.autocast(batch.inputs.device.type, enabled=False):
            images, texts = (
                self._draw(one, f"pcme.{name}", batch.ids, at)
                for name, one in (("images", pairs.images), ("texts", pairs.texts))
            )
            return self._lose(images, texts, match_logits(images.samples, texts.samples, pairs.scale, pairs.shift))

    def _draw(self, gaussians: Gaussians, name: str, ids: Tensor, at: Progress) -> _Drawn:
        """Of all ranks. Each draws noise for its own rows, by their ids."""
        mean, log_sigma = gaussians
        if log_sigma is None:
            raise ConfigError("technique=pcme: the network has points and no Gaussians; use model.learns=gaussians")
        j, d = shape = (self.settings.samples, mean.shape[1])
        noise = normal(at.seed, name, at.epoch, ids, j * d).view(-1, j, d).to(mean.dtype)
        samples = mean[:, None] + log_sigma.exp()[:, None] * noise
        mean, log_sigma, samples = self.gathered(torch.cat((mean, log_sigma, samples.flatten(1)), 1)).split(
            (d, d, j * d), 1
        )
        return _Drawn(mean, log_sigma, samples.unflatten(1, shape))

    def _lose(self, images: _Drawn, texts: _Drawn, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        settings, n = self.settings, len(logits)
        matching = match_loss(logits, torch.eye(n, dtype=torch.bool, device=logits.device)).sum() / n
        kl = torch.cat([kl_to_standard_normal(one.mean, one.log_sigma) for one in (images, texts)]).sum() / n
        loss = matching + settings.kl_weight * kl
        if settings.uniformity:
            loss = loss + settings.uniformity * uniformity(torch.cat((images.samples, texts.samples)).flatten(0, 1)) / n
        sigmas = {f"train/sigma_{k}": one.log_sigma.mean().exp() for k, one in (("images", images), ("texts", texts))}
        return loss, {"train/matching": matching, "train/kl": kl, **sigmas}


@schema
class PCME:
    """samples: J, of each image and each caption. kl_weight: β. uniformity: its weight; 0: none."""

    samples: Annotated[int, Field(ge=1)] = 5
    kl_weight: Annotated[float, Field(ge=0)] = 1e-5
    uniformity: Annotated[float, Field(ge=0)] = 0.0

    @property
    def couples_samples(self) -> bool:
        return True

    def over_ranks(self, gathered: Callable[[Tensor], Tensor]) -> Objective:
        return _PCMELoss(self, gathered)

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return _PCMELoss(self, gather_nothing)(model, batch, at)

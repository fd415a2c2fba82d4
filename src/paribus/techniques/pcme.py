"""PCME: an image and a caption become Gaussians, and match with a probability, so that one may match many.

Chun, Oh, de Rezende, Kalantidis & Larlus, "Probabilistic Embeddings for Cross-Modal Retrieval", CVPR 2021,
arXiv 2101.05068, equations 1 to 6.

    z = μ + σ ε, ε ~ N(0, I)        p(match | z_i, z_t) = sigmoid(2 (−a ‖z_i − z_t‖ + b))
    p_it = the mean of p(match) over J samples of the image and J of the caption
    loss = Σ over pairs that match of −log p_it + Σ over those that do not of −log(1 − p_it) + β Σ KL(N(μ, σ²) ‖ N(0, I))

What it changes   the objective, and two heads and two numbers of the network: log σ of images and of captions, a and b
                  (model.learns=gaussians). Encoders and the heads of μ, which has length 1, are the recipe's.
Hyperparameters   samples J = 7 and embeddings of 1,024 are the paper's; here J = 5 and 32, for a CPU: J² · n² distances
                  go into each step. β (kl_weight) = 1e-5 on COCO and 1e-3 on CUB; uniformity = 0 on COCO and 10 on CUB.
                  a and b start at 15 on COCO and at 5 on CUB (model.scale, model.shift).
As the authors    the pairs of a batch that were drawn together match and all others do not, even if a caption happens to
                  be true of another image; all n² pairs count, without choosing negatives; 1e-6 inside the root of the
                  distance; the sigmoid of the difference of s and −s, which is that of 2 s.
Deviations        the loss is divided by n, as all losses here are means over samples. The authors' code adds two terms
                  for the directions of retrieval which are the same sum; here it is there once, so β and uniformity weigh
                  twice what they do there. Their code draws with exp of a head's output as the deviation and takes the
                  same output for the logarithm of the variance in KL; here it is log σ in both. Uniformity (Wang & Isola
                  2020, arXiv 2005.10242) is the mean of exp(−2 d²) over pairs of samples, without leaving out some of
                  them. Retrieval is by the distance of means, and not by drawn samples (evaluators/retrieval.py).
Cost              J² · n² distances of a batch, and two heads. Several processes compute those of the global batch each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

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
from paribus.core.streams import uniform
from paribus.methods.matching import embed_pairs, gather_nothing

_INSIDE_ROOT = 1e-6  # a root has no gradient at 0


def draw_samples(gaussians: Gaussians, noise: Tensor) -> Tensor:
    """(n, J, d): μ + σ ε. noise: (n, J, d), standard normal. Raises ValueError for points."""
    if gaussians.log_sigma is None:
        raise ValueError("points have no deviation to draw samples by")
    return gaussians.mean[:, None] + gaussians.log_sigma.exp()[:, None] * noise


def normal_noise(seed: int, name: str, epoch: int, ids: Tensor, shape: tuple[int, int]) -> Tensor:
    """(n, *shape) float32, standard normal, keyed by sample as `uniform` is. Within ±5.3, for numbers of 24 bits."""
    draws = uniform(seed, name, epoch, ids, math.prod(shape))
    middle = 2 * draws - 1 + 2.0**-24  # the middle of each of 2²⁴ intervals of (−1, 1), so that none is infinite
    return (math.sqrt(2) * torch.erfinv(middle)).view(len(ids), *shape)


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


def kl_to_standard_normal(gaussians: Gaussians) -> Tensor:
    """(n,): KL(N(μ, σ²) ‖ N(0, I)), summed over coordinates. Raises ValueError for points."""
    if gaussians.log_sigma is None:
        raise ValueError("points are infinitely far from a normal distribution")
    log_sigma = gaussians.log_sigma
    return ((2 * log_sigma).exp() + gaussians.mean.square() - 1 - 2 * log_sigma).sum(1) / 2


def uniformity(points: Tensor) -> Tensor:
    """The mean of exp(−2 d²) over pairs of different points, (k, d): a scalar, 1 if all are in one place."""
    k = len(points)
    squared = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    return ((-2 * squared).exp().sum() - k) / max(k * (k - 1), 1)


@dataclass(frozen=True)
class _PCMELoss:
    settings: "PCME"
    gathered: Callable[[Tensor], Tensor]

    def __call__(self, model: nn.Module, batch: Batch, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = embed_pairs(model, batch)
        if pairs.scale is None or pairs.shift is None or pairs.images.log_sigma is None:
            raise ConfigError("technique=pcme: the network has points and no Gaussians; use model.learns=gaussians")
        with torch.autocast(batch.inputs.device.type, enabled=False):
            return self._lose(pairs, batch.ids, at)

    def _lose(self, pairs: MatchedPairs, ids: Tensor, at: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        (images, drawn_images), (texts, drawn_texts) = (
            self._draw(gaussians, f"pcme.{name}", ids, at) for name, gaussians in zip(pairs._fields, pairs[:2], strict=False)
        )
        n = len(drawn_images)
        logits = match_logits(drawn_images, drawn_texts, pairs.scale, pairs.shift)
        matched = torch.eye(n, dtype=torch.bool, device=logits.device)
        matching = match_loss(logits, matched).sum() / n
        kl = (kl_to_standard_normal(images) + kl_to_standard_normal(texts)).sum() / n
        loss = matching + settings.kl_weight * kl
        if settings.uniformity:
            everything = torch.cat((drawn_images, drawn_texts)).flatten(0, 1)
            loss = loss + settings.uniformity * uniformity(everything) / n
        sigmas = {
            f"train/sigma_{name}": one.log_sigma.mean().exp()  # the geometric mean
            for name, one in (("images", images), ("texts", texts))
        }
        return loss, {"train/matching": matching, "train/kl": kl, **sigmas}

    def _draw(self, gaussians: Gaussians, name: str, ids: Tensor, at: Progress) -> tuple[Gaussians, Tensor]:
        """The Gaussians and samples of all ranks. Noise is drawn by each rank for its own, by their ids."""
        mean = gaussians.mean
        shape = (self.settings.samples, mean.shape[1])
        samples = draw_samples(gaussians, normal_noise(at.seed, name, at.epoch, ids, shape).to(mean.dtype))
        everything = self.gathered(torch.cat((mean, gaussians.log_sigma, samples.flatten(1)), 1))
        mean, log_sigma, samples = everything.split((shape[1], shape[1], math.prod(shape)), 1)
        return Gaussians(mean, log_sigma), samples.view(-1, *shape)


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

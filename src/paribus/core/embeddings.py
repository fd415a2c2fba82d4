"""What a network of images and of text gives: a point or a Gaussian for each, in one space.

Objectives that match images with captions train such a network (methods/matching.py, techniques/pcme.py), and the
evaluator of retrieval asks for it (evaluators/retrieval.py).
"""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Gaussians(NamedTuple):
    """mean: (n, d), each of length 1. log_sigma: (n, d), the logarithm of the standard deviation (not of the variance)
    of each coordinate, which are independent; None: points."""

    mean: Tensor
    log_sigma: Tensor | None = None


class MatchedPairs(NamedTuple):
    """Of n images and the n captions that come with them. log_temperature, scale, shift: what the network learns for a
    loss, scalar tensors; None where it has not this one. log_temperature: of cosines. scale, shift: a and b of the
    logit −a · distance + b."""

    images: Gaussians
    texts: Gaussians
    log_temperature: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None


@runtime_checkable
class EmbedsBoth(Protocol):
    """Capability of a network: (n, c, h, w) inputs, and (n, length) int64 tokens, to Gaussians in one space."""

    def embed_images(self, inputs: Tensor) -> Gaussians: ...

    def embed_texts(self, tokens: Tensor) -> Gaussians: ...

"""Random numbers of a corruption: functions of the evaluator's seed, the kind, the severity and the sample's id."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import pdtr
from torch import Tensor

from paribus.core.streams import uniform

_HALF_STEP = 2.0**-25  # the streams' numbers are multiples of 2^-24: their middles lie strictly between 0 and 1


@dataclass(frozen=True)
class Draws:
    """For the samples with these ids, (n,) int64. name: of what is drawn, within a kind of corruption."""

    seed: int
    kind: str
    severity: int
    ids: Tensor

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(n, *shape) float64 in (0, 1), multiples of 2^-24 plus half of that."""
        flat = uniform(self.seed, f"corruptions.{self.kind}.{name}", self.severity, self.ids, math.prod(shape))
        return flat.double().view(-1, *shape) + _HALF_STEP

    def normal(self, name: str, *shape: int) -> Tensor:
        """(n, *shape) float64, by the inverse of the normal distribution; none is farther out than 5.4."""
        return torch.special.ndtri(self.uniform(name, *shape))

    def poisson(self, name: str, levels: Tensor, photons: float) -> Tensor:
        """(n, c, h, w) counts as float64, of mean levels · photons / 255, by the inverse of the distribution.

        levels: (n, c, h, w) int64, 0 to 255. The distributions of all 256 levels stand in one increasing sequence, that
        of level k between k and k + 1, so that a single search serves all pixels.
        """
        table, width = _poisson_table(photons)
        sequence = torch.from_numpy(table).to(levels.device)
        at = torch.searchsorted(sequence, self.uniform(name, *levels.shape[1:]) + levels)
        return (at - levels * width).double()


@functools.lru_cache(maxsize=8)
def _poisson_table(photons: float) -> tuple["np.ndarray[tuple[int], np.dtype[np.float64]]", int]:
    """k + P(count ≤ j) at k · width + j, for level k; and the width."""
    width = int(photons + 8 * math.sqrt(photons)) + 16
    below = pdtr(np.arange(width), np.arange(256)[:, None] * photons / 255)
    below[:, -1] = 1.0  # the chance of more is under 2^-25
    return (below + np.arange(256)[:, None]).ravel(), width

"""Levels for tests that are repeated while seeds come in: error spending after Lan and DeMets (1983).

A plan looks at the data K times. Testing at 0.05 each time would err far more often than in 5 % of studies, so the
error is spent bit by bit: a function of the share t of all seeds says how much of it may be used up by then, and the
boundary of each look is what spends exactly the increment.

    nominal_levels((1/3, 2/3, 1.0), alpha=0.05)     # 0.0002, 0.0120, 0.0463: what p is compared with at each look

Maths (Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, chapter 19). With information t_k at look k, the
score B_k = Z_k sqrt(t_k) is a Brownian motion: increments are independent, normal, of variance t_k - t_(k-1). The
density of B_k among the studies that have not crossed yet is carried from look to look by numerical integration.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paribus.core.errors import ConfigError
from paribus.study.stats.estimate import check_fraction

Spending = Literal["obrien-fleming", "pocock"]
Sides = Literal[1, 2]

_FAR = 8.5  # standard deviations; what lies beyond is below the rounding of a double


def spent(fraction: float, level: float, spending: Spending = "obrien-fleming") -> float:
    """The part of a one-sided level that may be used up when this fraction of all seeds is there.

    obrien-fleming: next to nothing early on, so that the last look costs little. pocock: evenly, for early stops.
    """
    from scipy.special import ndtr, ndtri

    if spending == "obrien-fleming":
        return float(2 * ndtr(ndtri(level / 2) / math.sqrt(fraction)))
    if spending == "pocock":
        return level * math.log1p((math.e - 1) * fraction)
    raise ConfigError(f"spending: found {spending}, must be obrien-fleming or pocock")


def boundaries(
    fractions: Sequence[float], alpha: float = 0.05, spending: Spending = "obrien-fleming", sides: Sides = 2
) -> tuple[float, ...]:
    """The value that Z (two-sided: |Z|) must reach at each look; alpha / sides is spent on each side.

    fractions: seeds at each look divided by those at the last, ascending, the last 1. Infinite where a look has
    nothing to spend (below 1e-300).
    """
    check_fraction("alpha", alpha)
    if not fractions or fractions[-1] != 1 or any(b <= a for a, b in zip((0.0, *fractions), fractions, strict=False)):
        raise ValueError(f"fractions: found {fractions}, must ascend from above 0 to 1")
    return _integrate(tuple(fractions), alpha / sides, spending, sides == 2)


def nominal_levels(
    fractions: Sequence[float], alpha: float = 0.05, spending: Spending = "obrien-fleming", sides: Sides = 2
) -> tuple[float, ...]:
    """`boundaries` as p values, two-sided or one-sided like the test: claim at look k where p is at most the k-th.

    With few seeds these levels are applied to the p value of the t test (Jennison and Turnbull's significance level
    approach, section 4.4): each look is then exact, and only the dependence between looks is approximated.
    """
    from scipy.special import ndtr

    return tuple(sides * float(ndtr(-c)) for c in boundaries(fractions, alpha, spending, sides))


@lru_cache(maxsize=1024)
def _integrate(fractions: tuple[float, ...], level: float, spending: Spending, two_sided: bool) -> tuple[float, ...]:
    steps = [b - a for a, b in zip((0.0, *fractions), fractions, strict=False)]
    crossed, found = 0.0, []
    at, mass = np.zeros(1), np.ones(1)  # B at the last look: nodes, and the probability of each
    for k, (t, step) in enumerate(zip(fractions, steps, strict=True)):
        so_far = spent(t, level, spending)
        c = _solve(at, mass, math.sqrt(t), math.sqrt(step), so_far - crossed)
        crossed = so_far
        found.append(c)
        if k + 1 < len(fractions):
            width = min(math.sqrt(step), math.sqrt(steps[k + 1]))  # of the narrowest bump that is integrated next
            nodes, weights = _nodes(-min(c, _FAR) if two_sided else -_FAR, min(c, _FAR), math.sqrt(t), width)
            apart = (nodes[:, None] - at[None, :]) / math.sqrt(step)
            mass = weights * (np.exp(-apart * apart / 2) @ mass) / math.sqrt(2 * math.pi * step)
            at = nodes
    return tuple(found)


def _solve(at: NDArray, mass: NDArray, root: float, sigma: float, wanted: float) -> float:
    """The boundary c at which the studies still running cross upwards, B > c root, with probability `wanted`."""
    from scipy.special import ndtr

    if wanted < 1e-300:
        return math.inf
    low, high = -40.0, 40.0
    while high - low > 1e-12 * max(1.0, abs(low)):
        c = (low + high) / 2
        low, high = (c, high) if float(np.dot(mass, ndtr((at - c * root) / sigma))) > wanted else (low, c)
    return (low + high) / 2


def _nodes(low: float, high: float, root: float, width: float) -> tuple[NDArray, NDArray]:
    """Gauss-Legendre nodes and weights on [low, high] root, dense enough for bumps of this width."""
    length = (high - low) * root
    count = 32 * math.ceil((24 + 2.2 * length / width) / 32)  # rounded up, so that few rules are computed
    nodes, weights = _gauss_legendre(count)
    return low * root + length / 2 * (nodes + 1), length / 2 * weights


@lru_cache(maxsize=64)
def _gauss_legendre(count: int) -> tuple[NDArray, NDArray]:
    return np.polynomial.legendre.leggauss(count)

"""Levels for a paired t test that is repeated while seeds come in: error spending, exact at any number of seeds.

A plan looks at the data K times. Testing at 0.05 each time would err far more often than in 5 % of studies, so the
error is spent bit by bit (Lan and DeMets 1983): a function of the share of all seeds says how much of it may be used
up by then, and the level of each look is what spends exactly the increment.

    nominal_levels((10, 20, 30), alpha=0.05)     # 0.0002, 0.0120, 0.0453: what p is compared with at each look

Textbooks compute the levels for normal statistics, Z with known variance, and apply them to the p values of t tests
(Jennison and Turnbull 2000, section 4.4). With looks at 4, 6, ..., 20 seeds that errs in 5.4 % instead of 5 %, at 2, 3,
..., 10 in 5.7 %, spent evenly in 6.1 %, as t statistics of few seeds hang together less. So the levels here are those
of the t statistics themselves (as in Jennison and Turnbull 1991); with many seeds they become the textbook's.

Maths. Without a true difference only the direction of the vector of n differences matters, and it is uniform on the
sphere. Let phi_n be its angle to (1, ..., 1): t_n = sqrt(n - 1) cot(phi_n), and phi_1, phi_2, ... is a Markov chain.
Given phi_m at the later m = n + g seeds, what is left of the vector is uniform on a sphere of m - 1 dimensions, and

    cot(phi_n) = (sqrt(n/m) cot(phi_m) + sqrt(g/m) cos(theta)) / (sin(theta) sqrt(beta)),

where theta, with density ~ sin(theta)^(m - 3), is its angle to the contrast of the first n seeds with the last g, and
beta ~ Beta((n - 1) / 2, (g - 1) / 2) the share of the first n in what then remains. From look to look the recursion
carries H(phi): the probability that no earlier look claimed anything, given the angle now. The level q of a look solves
integral of H over the q most extreme angles = increment. The region that claims nothing is one interval of theta.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paribus.core.errors import ConfigError
from paribus.study.stats.estimate import check_fraction

Spending = Literal["obrien-fleming", "pocock"]
Sides = Literal[1, 2]

_GRID, _PSIS, _THETAS, _TAIL = 128, 16, 16, 32  # points; a level above 1e-5 is right to 0.05 % of itself
_FAR, _WIDE = 9.5, 7.0  # standard deviations beyond which a statistic, or a step of it, is not looked at


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


def nominal_levels(
    looks: Sequence[int], alpha: float = 0.05, spending: Spending = "obrien-fleming", sides: Sides = 2
) -> tuple[float, ...]:
    """What the p value of the t test is compared with at each look, so that all looks together err in alpha.

    looks: differences at each look, ascending, 2 or more. sides: of the test and so of p; with 2, alpha / 2 is spent
    on each. 0 where a look has nothing to spend (below 1e-300).
    """
    check_fraction("alpha", alpha)
    if alpha / sides >= 0.5:
        raise ConfigError(f"alpha: found {alpha}, must be below {0.5 * sides:g} for looks")
    if not looks or looks[0] < 2 or any(b <= a for a, b in pairwise(looks)):
        raise ValueError(f"looks: found {looks}, must ascend from 2 or more")
    return tuple(sides * q for q in _levels(tuple(looks), alpha / sides, spending, sides == 2))


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """H: the probability that no look so far has claimed anything, as a function of the angle.

    It is 0 below `low` and, in two-sided tests, above `high`, where it starts like a square root. So it is stored at
    points that are evenly spaced in y, for angle = middle - half cos(y), and in y it is smooth.
    """

    low: float
    high: float
    values: NDArray

    def __call__(self, angle: NDArray) -> NDArray:
        """Cubic through the four nearest points."""
        last = len(self.values) - 1
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        place = np.arccos(np.clip((middle - angle) / half, -1, 1)) * (last / math.pi)
        i = np.clip(place.astype(np.int64), 1, last - 2)
        u, v = place - i, self.values
        before, after = u * (u - 1) / 6, (u + 1) / 6
        outer = v[i - 1] * (before * (2 - u)) + v[i + 2] * (after * u * (u - 1))
        return outer + (v[i] * (u - 1) - v[i + 1] * u) * (after * 3 * (u - 2))


@lru_cache(maxsize=1024)
def _levels(looks: tuple[int, ...], level: float, spending: Spending, two_sided: bool) -> tuple[float, ...]:
    from scipy.special import stdtrit

    kept = _Kept(0.0, math.pi, np.ones(_GRID))
    crossed, levels = 0.0, []
    for k, n in enumerate(looks):
        so_far = spent(n / looks[-1], level, spending)
        levels.append(_level_that_spends(so_far - crossed, kept, n))
        crossed = so_far
        if k + 1 < len(looks):
            edge = -float(stdtrit(n - 1, levels[-1])) / math.sqrt(n - 1) if levels[-1] > 0 else math.inf
            kept = _carry(kept, edge, n, looks[k + 1], two_sided)
    return tuple(levels)


def _level_that_spends(increment: float, kept: _Kept, n: int) -> float:
    """The share q of most extreme angles, on one side, in which studies that got here make a claim this often."""
    from scipy.special import stdtr, stdtrit

    if increment < 1e-300:
        return 0.0
    nodes, weights = _unit_rule(_TAIL)
    # no study gets to the angles below kept.low; from there on H may start like a square root, hence nodes squared
    never = float(stdtr(n - 1, -math.sqrt(n - 1) / math.tan(kept.low))) if kept.low > 0 else 0.0

    low = never + increment  # H <= 1, so q is that or more
    high = q = 0.5
    while high - low > 1e-10 * low:  # Newton's steps; where one leaves the bracket, the geometric middle
        angles = np.arctan2(math.sqrt(n - 1), -stdtrit(n - 1, never + (q - never) * np.append(nodes * nodes, 1.0)))
        held = kept(angles)
        excess = float(np.dot(2 * (q - never) * weights * nodes, held[:-1])) - increment
        low, high = (low, q) if excess > 0 else (q, high)
        step = excess / float(held[-1]) if held[-1] > 0 else math.inf
        if abs(step) < 1e-10 * q:
            return q - step
        q = q - step if low < q - step < high else math.sqrt(low * high)
    return q


def _carry(kept: _Kept, edge: float, n: int, m: int, two_sided: bool) -> _Kept:
    """H at m differences, from that at n and the cotangent from which the look at n makes its claim."""
    weight = math.sqrt((m - n) / m)
    # beyond this angle the look at n has claimed for certain: |shift| > hypot(edge, weight) below
    least = math.atan2(math.sqrt(n / m), math.hypot(edge, weight))
    least = max(least, 1e-9, math.pi / 2 - _FAR / math.sqrt(m - 1))  # of two differences the edge may be 1e100
    most = math.pi - least if two_sided else min(math.pi - 1e-9, math.pi / 2 + _FAR / math.sqrt(m - 1))
    angles = (least + most) / 2 - (most - least) / 2 * np.cos(np.linspace(0, math.pi, _GRID))

    root_beta, of_beta = _shares_of_the_first(n, m - n)
    shift = math.sqrt(n / m) / np.tan(angles)[:, None]
    low, high = _interval(shift, weight, edge * root_beta, two_sided)
    if m > 3:
        reach = _WIDE / math.sqrt(m - 3)
        low, high = (np.clip(x, math.pi / 2 - reach, math.pi / 2 + reach) for x in (low, high))
    nodes, of_theta = _unit_rule(_THETAS)
    length = np.maximum(high - low, 0.0)
    theta = low[..., None] + length[..., None] * nodes  # (angle, beta, theta)
    sine = np.sin(theta)
    before = np.arctan2(sine * root_beta[:, None], shift[..., None] + weight * np.cos(theta))
    constant = math.exp(math.lgamma((m - 1) / 2) - math.lgamma((m - 2) / 2)) / math.sqrt(math.pi)
    return _Kept(least, most, constant * ((kept(before) * sine ** (m - 3)) @ of_theta * length) @ of_beta)


def _shares_of_the_first(n: int, g: int) -> tuple[NDArray, NDArray]:
    """Nodes for sqrt(beta) and their weights. beta = cos(psi)^2 has a density that is smooth in psi."""
    if g == 1:
        return np.ones(1), np.ones(1)
    middle, reach = math.atan2(math.sqrt(g - 1), math.sqrt(n - 1)), _WIDE / math.sqrt(2 * (n + g - 2))
    low, high = max(0.0, middle - reach), min(math.pi / 2, middle + reach)
    nodes, weights = _unit_rule(_PSIS)
    psi = low + (high - low) * nodes
    log_density = (n - 2) * np.log(np.cos(psi)) + (g - 2) * np.log(np.sin(psi))
    density = weights * np.exp(log_density - log_density.max())
    return np.cos(psi), density / density.sum()


def _interval(shift: NDArray, weight: float, edge: NDArray, two_sided: bool) -> tuple[NDArray, NDArray]:
    """The thetas in (0, pi) with shift + weight cos(theta) < edge sin(theta), and > -edge sin(theta) if two-sided."""
    turn = np.arctan2(edge, weight)
    a = np.arccos(np.clip(-shift / np.hypot(edge, weight), -1, 1))
    if two_sided:
        return np.abs(a - turn), math.pi - np.abs(math.pi - a - turn)
    return np.maximum(0.0, a - turn), np.minimum(math.pi, 2 * math.pi - a - turn)


@lru_cache(maxsize=8)
def _unit_rule(count: int) -> tuple[NDArray, NDArray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2

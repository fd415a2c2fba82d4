"""Robustness rows: the same question without assuming a normal distribution. No verdict depends on them.

* Sign-flip test: if the arms did not differ, every difference could as well have had the other sign. Exact up to 20
  seeds, by counting all 2^n; 100,000 random ones beyond. It cannot fall below 2^(1-n): 0.0625 at 5 seeds, 0.03125 at 6.
* BCa bootstrap interval (Efron 1987, doi:10.1080/01621459.1987.10478410), from 20 seeds on: with fewer it is too
  narrow. It assumes no distribution, but uses only what the sample shows.

Random numbers are keyed by a name, as everywhere in paribus; the generator is NumPy's because studies start without
torch. The sample is first sorted and oriented, so relabelled seeds give bit-exact results and swapped arms their
negative.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paribus.study.stats.estimate import NAN
from paribus.study.stats.paired import Comparison

EXACT_MAX_SEEDS = 20
BCA_MIN_SEEDS, BCA_RESAMPLES = 20, 10_000
SIGN_FLIPS = 100_000
MAX_SEEDS = 1_000  # seeds, at 0.6 s per comparison; beyond, resampling adds nothing to t
_CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True, slots=True)
class Robustness:
    """sign_flip_p, whether it is exact, and the smallest value it could have taken; the BCa interval.

    NaN where there is none: without pairing, for no seeds or more than 1,000, for BCa also below 20 seeds.
    """

    sign_flip_p: float
    sign_flip_exact: bool
    sign_flip_floor: float
    bca_low: float
    bca_high: float


def make_generator(name: str, *key: int | str) -> np.random.Generator:
    """The generator keyed by (name, *key) only."""
    digest = hashlib.shake_256(repr((name, key)).encode()).digest(32)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def robustness(comparison: Comparison, study: str, *, alpha: float = 0.05) -> Robustness:
    """study: the name that keys the random numbers, together with the names of the two arms."""
    differences = comparison.differences
    if not 0 < len(differences) <= MAX_SEEDS:
        return Robustness(NAN, False, NAN, NAN, NAN)
    name = (study, comparison.arm, comparison.baseline)
    exact = len(differences) <= EXACT_MAX_SEEDS
    p = sign_flip_p(differences, None if exact else make_generator("sign flips", *name))
    low, high = NAN, NAN
    if len(differences) >= BCA_MIN_SEEDS:
        low, high = bca_interval(differences, make_generator("bca", *name), alpha=alpha)
    floor = sign_flip_floor(len(differences)) if exact else 1 / (1 + SIGN_FLIPS)
    return Robustness(p, exact, floor, low, high)


def sign_flip_floor(n: int) -> float:
    """The smallest p that the exact test on n differences can give: at most 0.05 from 6 seeds on."""
    return min(1.0, 2.0 ** (1 - n))


def sign_flip_p(differences: Sequence[float], random: np.random.Generator | None = None) -> float:
    """Two-sided p of "each difference could as well have the other sign": the share of flips with as large a |sum|.

    Exact without a generator (time and memory grow as 2^n: 10 ms at n = 20). With one, 100,000 random flips, the
    observed one counted among them, so that p is never 0 and the test keeps its level.
    """
    sizes = np.sort(np.abs(np.asarray(differences, dtype=np.float64)))[::-1]
    # a sum that equals the observed one up to the order of summation counts as equal
    observed = abs(math.fsum(differences)) - 1e-12 * math.fsum(sizes)
    if random is None:
        sums = sizes[:1]  # the first sign stays: its flip mirrors every sum and changes no |sum|
        for size in sizes[1:]:
            sums = np.concatenate((sums + size, sums - size))
        return float(np.count_nonzero(np.abs(sums) >= observed) / len(sums)) if len(sums) else NAN
    reached = 0
    for rows in _split_rows(SIGN_FLIPS, len(sizes)):
        signs = random.integers(0, 2, size=(rows, len(sizes)), dtype=np.int8) * 2.0 - 1.0
        reached += int(np.count_nonzero(np.abs(signs @ sizes) >= observed))
    return (1 + reached) / (1 + SIGN_FLIPS)


def bca_interval(
    differences: Sequence[float], random: np.random.Generator, *, alpha: float = 0.05, resamples: int = BCA_RESAMPLES
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean; NaN where the differences do not vary.

    For a mean the jackknife needs no loop: the acceleration is a sixth of the sum of cubed deviations over the sum of
    squares to the power 3/2.
    """
    from scipy.special import ndtr, ndtri

    values, sign = _orient(differences)
    mean = math.fsum(values) / len(values)
    deviations = values - mean
    squares = float(deviations @ deviations)
    if squares == 0 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return NAN, NAN
    acceleration = float(np.sum(deviations**3)) / (6 * squares**1.5)
    means = np.concatenate(
        [
            values[random.integers(0, len(values), size=(rows, len(values)))].mean(axis=1)
            for rows in _split_rows(resamples, len(values))
        ]
    )
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * resamples)
    bias, z = float(ndtri(below)), float(ndtri(alpha / 2))
    levels = [ndtr(bias + (bias + q) / (1 - acceleration * (bias + q))) for q in (z, -z)]
    low, high = np.quantile(means, levels)
    return (float(low), float(high)) if sign > 0 else (float(-high), float(-low))


def _orient(differences: Sequence[float]) -> tuple[np.ndarray, int]:
    """The sorted values of either the sample or its negative, whichever is the larger, and which it was."""
    values = np.sort(np.asarray(differences, dtype=np.float64))
    mirrored = -values[::-1]
    return (values, 1) if values.tolist() >= mirrored.tolist() else (mirrored, -1)


def _split_rows(rows: int, columns: int) -> list[int]:
    """rows in chunks of bounded memory."""
    step = max(1, _CHUNK_ELEMENTS // max(1, columns))
    return [min(step, rows - start) for start in range(0, rows, step)]

"""The statistics agree with SciPy, or with an independent account, on fixed cases; and each check can fail.

Every check returns how far ours is from the reference. Its negative controls are our own functions with one piece
of their source changed: with each of them the check must see a difference.
"""

import inspect
import math
import sys
from collections.abc import Callable
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from paribus.study.stats import estimate, factorial, paired, power, resampling, time_to_target, verdict
from paribus.study.stats.time_to_target import Arrival
from paribus.study.stats.verdict import Rule

EXACT, TOLD_APART = 1e-10, 1e-5

A = [0.7412, 0.7388, 0.7455, 0.7401, 0.7440, 0.7396, 0.7471, 0.7419]
B = [0.7360, 0.7391, 0.7402, 0.7333, 0.7421, 0.7377, 0.7398, 0.7405]
UNEQUAL = [0.731, 0.752, 0.719, 0.744, 0.738]
MARGIN = 0.004
D = [a - b for a, b in zip(A, B, strict=True)]
LONG = np.random.default_rng(3).gamma(2.0, 0.01, 24).tolist()  # skewed, so that BCa's corrections matter


def apart(ours: list[float], reference: list[float]) -> float:
    return max(abs(o - r) / max(abs(r), 1e-12) for o, r in zip(ours, reference, strict=True))


def tost(d: Any, margin: float) -> float:
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    return float(max(above, stats.ttest_1samp(d, margin, alternative="less").pvalue))


def paired_t() -> float:
    e = paired.compare(dict(enumerate(A)), dict(enumerate(B)), Rule(MARGIN)).estimate
    reference = stats.ttest_rel(A, B)
    low, high = reference.confidence_interval(0.95)
    return apart(
        [e.mean, e.se, e.p_zero, e.low, e.high, e.p_beyond],
        [np.mean(D), stats.sem(D), reference.pvalue, low, high, tost(D, MARGIN)],
    )


def welch_t() -> float:
    e = paired.compare(dict(enumerate(A)), dict(enumerate(UNEQUAL, 100)), Rule(MARGIN)).estimate
    reference = stats.ttest_ind(A, UNEQUAL, equal_var=False)
    low, high = reference.confidence_interval(0.95)
    above = stats.ttest_ind(np.add(A, MARGIN), UNEQUAL, equal_var=False, alternative="greater")
    below = stats.ttest_ind(np.subtract(A, MARGIN), UNEQUAL, equal_var=False, alternative="less")
    return apart(
        [e.df, e.p_zero, e.low, e.high, e.p_beyond],
        [reference.df, reference.pvalue, low, high, max(above.pvalue, below.pvalue)],
    )


def sign_flips() -> float:
    d = [0.5, -1.0, 1.5, 2.0, -0.25, 0.75, 1.0, 1.0]  # with ties among the sums
    reference = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return apart([resampling.sign_flip_p(d)], [reference.pvalue])


def random_sign_flips() -> float:
    """0 within four standard deviations of the Monte Carlo error."""
    small = [0.3, -0.1, 0.2, 0.4, -0.3, 0.25, 0.1, -0.05, 0.2]
    p, sampled = resampling.sign_flip_p(small), resampling.sign_flip_p(small, resampling.make_generator("a test"))
    off = abs(p - sampled) / (4 * math.sqrt(p * (1 - p) / resampling.SIGN_FLIPS))
    return 0.0 if off < 1 else off


def bca() -> float:
    off = 0.0
    for sample in (LONG, np.round(np.multiply(LONG, 100)).tolist()):  # whole numbers: their means tie
        ours = resampling.bca_interval(sample, resampling.make_generator("a test"))
        reference = stats.bootstrap(
            (np.sort(sample),), np.mean, method="BCa", n_resamples=10_000, rng=resampling.make_generator("a test")
        ).confidence_interval
        off = max(off, apart(list(ours), [reference.low, reference.high]))
    return off


def holm_as_closed_test() -> float:
    """Holm is the closed test of Bonferroni: the worst over all intersections that contain the hypothesis."""
    p = [0.011, 0.02, 0.3, 0.004, 0.021]
    families = [f for size in range(1, 6) for f in combinations(range(5), size)]
    reference = [max(min(1.0, len(f) * min(p[j] for j in f)) for f in families if i in f) for i in range(5)]
    return apart(verdict.holm(p), reference)


def noncentral_t() -> float:
    cases = [(0.5, 34, 0.05), (1.2, 5, 0.0125), (3.0, 3, 0.05), (0.1, 700, 0.05)]
    ours = [power.power_of_difference(effect, n, sd=1.0, alpha=alpha) for effect, n, alpha in cases]
    reference: list[float] = []
    for effect, n, alpha in cases:
        t, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect * math.sqrt(n)
        reference.append(stats.nct.sf(t, n - 1, shift))
    return apart(ours, reference)


def equivalence_by_adaptive_quadrature() -> float:
    cases = [
        (1.0, 4, 0.05, 0.0),
        (0.5, 36, 0.05, 0.0),
        (0.5, 36, 0.05, 0.25),
        (2.0, 2, 0.02, 0.0),
        (0.1, 3000, 0.05, 0),
    ]
    ours = [power.power_of_equivalence(m, n, sd=1.0, alpha=alpha, effect=e) for m, n, alpha, e in cases]
    reference: list[float] = []
    for m, n, alpha, effect in cases:
        t, s = stats.t.ppf(1 - alpha, n - 1), stats.chi(n - 1, scale=1 / math.sqrt(n - 1))

        def accepted(x: float, m: float = m, n: int = n, effect: float = effect, t: float = t, s: Any = s) -> float:
            edge = m - t * x / math.sqrt(n)
            mean = stats.norm(effect, 1 / math.sqrt(n))
            return s.pdf(x) * (mean.cdf(edge) - mean.cdf(-edge))

        ends = max(0.0, 1 - 12 / math.sqrt(2 * n - 2)), min(m * math.sqrt(n) / t, 1 + 12 / math.sqrt(2 * n - 2))
        reference.append(integrate.quad(accepted, *ends, epsabs=1e-13, epsrel=1e-12)[0])
    return apart(ours, reference)


def kaplan_meier() -> float:
    random, off = np.random.default_rng(2), 0.0
    for _ in range(20):  # with ties, also between an arrival and a censored run
        times, reached = random.integers(1, 9, 11).astype(float).tolist(), (random.random(11) < 0.7).tolist()
        data = stats.CensoredData(
            uncensored=[t for t, r in zip(times, reached, strict=True) if r],
            right=[t for t, r in zip(times, reached, strict=True) if not r],
        )
        sf = stats.ecdf(data).sf
        half = sf.probabilities <= 0.5 + 1e-12
        reference = float(sf.quantiles[np.argmax(half)]) if half.any() else -1.0
        ours = time_to_target.median_time([Arrival(t, r) for t, r in zip(times, reached, strict=True)])
        off = max(off, apart([-1.0 if math.isnan(ours) else ours], [reference]))
    return off


def sign_test() -> float:
    cases = [(9, 2), (0, 6), (3, 3), (1, 11)]
    return apart([time_to_target.sign_test_p(*c) for c in cases], [stats.binomtest(a, a + b).pvalue for a, b in cases])


def pairing_numbers() -> float:
    ours = paired.pairing(dict(enumerate([*A, 0.7405])), dict(enumerate(B)))
    u = stats.mannwhitneyu([*A, 0.7405], B).statistic  # 0.7405 ties
    ratio = np.var(D, ddof=1) / (np.var(A, ddof=1) + np.var(B, ddof=1))
    return apart(
        [ours.correlation, ours.variance_ratio, ours.p_better, ours.p_better_paired],
        [stats.pearsonr(A, B).statistic, ratio, u / 72, np.mean(np.greater(A, B))],
    )


def factorial_as_regression() -> float:
    """Least squares on the -1/+1 coded design of one seed: effects are 2 and 4 times its coefficients."""
    names = ("a", "b", "c")
    ons = [frozenset(on) for size in range(4) for on in combinations(names, size)]
    y = np.random.default_rng(5).normal(70, 1, (len(ons), 6))
    arms = {on: dict(enumerate(row.tolist())) for on, row in zip(ons, y, strict=True)}
    signs = np.array([[1 if name in on else -1 for name in names] for on in ons])
    pairs = list(combinations(range(3), 2))
    design = np.column_stack([np.ones(8), signs, *(signs[:, i] * signs[:, j] for i, j in pairs)])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0][1:]
    per_seed = coefficients * np.array([2, 2, 2, 4, 4, 4])[:, None]
    tests = [stats.ttest_1samp(row, 0.0) for row in per_seed]
    effects = factorial.factorial_effects(names, arms, Rule(MARGIN))
    ours = [v for e in effects for v in (e.estimate.mean, e.estimate.p_zero, e.estimate.low)]
    reference = [
        v
        for row, t in zip(per_seed, tests, strict=True)
        for v in (row.mean(), t.pvalue, t.confidence_interval(0.95).low)
    ]
    return apart(ours, reference)


def chi_square() -> float:
    low, high = power.sd_interval(0.5, 5)
    reference = [0.5 * math.sqrt(4 / stats.chi2.ppf(q, 4)) for q in (0.975, 0.025)]
    return apart([low, high], reference)


CHECKS = [
    paired_t,
    welch_t,
    sign_flips,
    random_sign_flips,
    bca,
    holm_as_closed_test,
    noncentral_t,
    equivalence_by_adaptive_quadrature,
    kaplan_meier,
    sign_test,
    pairing_numbers,
    factorial_as_regression,
    chi_square,
]


@pytest.mark.parametrize("check", CHECKS)
def test_ours_agrees_with_the_reference(check: Callable[[], float]) -> None:
    assert check() < EXACT


MUTANTS: list[tuple[Callable[[], float], ModuleType, str, str, str]] = [
    (paired_t, estimate, "mean_and_sd", "(len(values) - 1)", "len(values)"),
    (paired_t, estimate, "one_sample", "sd / math.sqrt(n), n - 1", "sd / math.sqrt(n), n"),
    (paired_t, estimate, "_estimate_by_t", "p_zero = 2 *", "p_zero ="),
    (paired_t, estimate, "_estimate_by_t", "1 - alpha / 2", "1 - alpha"),
    (paired_t, estimate, "_estimate_by_t", "abs(mean) - margin", "-abs(mean) - margin"),
    (welch_t, estimate, "welch", "(len(b) - 1))", "len(b))"),
    (welch_t, estimate, "welch", "sd_b / math.sqrt(len(b))", "sd_b / math.sqrt(len(a))"),
    (sign_flips, resampling, "sign_flip_p", "- 1e-12 *", "+ 1e-12 *"),
    (sign_flips, resampling, "sign_flip_p", "sums - size", "sums"),
    (random_sign_flips, resampling, "sign_flip_p", "* 2.0 - 1.0", "* 2.0 - 0.9"),
    (bca, resampling, "bca_interval", "squares**1.5)", "squares**1.5) * 0"),
    (bca, resampling, "bca_interval", "float(ndtri(below))", "0.0"),
    (bca, resampling, "bca_interval", "means <= mean", "means < mean"),
    (holm_as_closed_test, verdict, "holm", "max(running, ", "max(0.0, "),
    (holm_as_closed_test, verdict, "holm", "(len(p) - rank)", "len(p)"),
    (noncentral_t, power, "_detection_probability", "1 - alpha / 2", "1 - alpha"),
    (noncentral_t, power, "power_of_difference", "n - 1", "n"),
    (equivalence_by_adaptive_quadrature, power, "power_of_equivalence", "(df - 1) * np.log", "df * np.log"),
    (equivalence_by_adaptive_quadrature, power, "power_of_equivalence", "(-margin - effect)", "(-margin + effect)"),
    (kaplan_meier, time_to_target, "median_time", "a.time >= time for", "a.time > time for"),
    (kaplan_meier, time_to_target, "median_time", "a.reached and a.time == time", "a.time == time"),
    (sign_test, time_to_target, "sign_test_p", "fewer + 1", "fewer"),
    (pairing_numbers, paired, "_win_rate", "bisect_right", "bisect_left"),
    (pairing_numbers, paired, "pairing", "(sd_x * sd_x + sd_y * sd_y)", "(2 * sd_x * sd_x)"),
    (pairing_numbers, paired, "pairing", "/ (len(seeds) - 1)", "/ len(seeds)"),
    (factorial_as_regression, factorial, "_compute_contrasts", "- len(names))", "- 1)"),
    (factorial_as_regression, factorial, "_compute_contrasts", "else -1", "else 0"),
    (chi_square, power, "sd_interval", "(n - 1, alpha / 2)", "(n, alpha / 2)"),
]


@pytest.mark.parametrize(("check", "module", "name", "old", "new"), MUTANTS)
def test_negative_control_a_mutant_is_told_from_the_reference(
    check: Callable[[], float], module: ModuleType, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(module, name)
    source = inspect.getsource(original)
    assert old in source, "the mutant's place is gone: choose another"
    namespace = dict(vars(module))
    exec(source.replace(old, new), namespace)
    for home in [m for m in sys.modules.values() if m.__name__.startswith("paribus.study")]:
        for key, value in list(vars(home).items()):
            if value is original:
                monkeypatch.setattr(home, key, namespace[name])
    assert check() > TOLD_APART


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_the_textbook_values(effect: float, n: int) -> None:
    # Cohen's d_z, two-sided 5 %, power 80 %: as G*Power prints them for matched pairs
    assert power.seeds_for_difference(effect, sd=1.0) == n
    assert power.power_of_difference(effect, n, sd=1.0) >= 0.8 > power.power_of_difference(effect, n - 1, sd=1.0)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
@pytest.mark.parametrize("margin", [0.1, 0.5, 1.0, 3.0])
def test_seeds_for_equivalence_are_the_smallest_that_have_the_power(margin: float, alpha: float) -> None:
    n = power.seeds_for_equivalence(margin, sd=1.0, alpha=alpha)
    normal = ((stats.norm.ppf(1 - alpha) + stats.norm.ppf(0.9)) / margin) ** 2
    assert normal <= n <= normal + 8
    assert power.power_of_equivalence(margin, n, sd=1.0, alpha=alpha) >= 0.8
    assert n == 2 or power.power_of_equivalence(margin, n - 1, sd=1.0, alpha=alpha) < 0.8


def test_minimum_detectable_is_the_way_back() -> None:
    for n in (2, 3, 8, 34, 1000):
        effect = power.minimum_detectable(0.4 / math.sqrt(n), n - 1, alpha=0.02, power=0.9)
        assert power.power_of_difference(effect, n, sd=0.4, alpha=0.02) == pytest.approx(0.9, abs=1e-7)

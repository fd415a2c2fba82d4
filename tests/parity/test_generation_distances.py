"""Fréchet distance, KID, precision and recall: as torch-fidelity has them on the same features, as SciPy's matrix root
gives, and as written out in loops. What is told apart: divisor n, KID with its diagonal, swapped roles, k − 1.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from torch_fidelity import metric_fid, metric_kid, metric_prc

from paribus.core.streams import stream
from paribus.evaluators import distances
from paribus.evaluators.distances import frechet_distance, kernel_distance, precision_and_recall

TOLERANCE = 1e-6  # relative


class Case(NamedTuple):
    real: Tensor
    generated: Tensor


def draw(n: int, d: int, seed: int) -> Tensor:
    """(n, d) features that are no Gaussian and correlated, as those of a network with ReLUs."""
    drawn = stream(seed, "distances.test")
    mixing = torch.randn(d, d, generator=stream(1, "distances.mixing"), dtype=torch.float64) / d**0.5
    return (torch.randn(n, d, generator=drawn, dtype=torch.float64) @ mixing + 0.3).relu()


def cases() -> list[Case]:
    small = Case(draw(60, 5, 1), draw(60, 5, 2) * 1.3)
    large = Case(draw(700, 48, 3), draw(700, 48, 4) * 0.8 + 0.1)  # of several blocks
    return [small, large]


def fid_by_fidelity(case: Case) -> float:
    statistics = [metric_fid.fid_features_to_statistics(x) for x in case]
    return metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def kid_by_fidelity(case: Case) -> float:
    """With a subset of everything, so that nothing is drawn."""
    found = metric_kid.kid_features_to_metric(
        *case, kid_subsets=1, kid_subset_size=len(case.real), rng_seed=0, verbose=False
    )
    return found["kernel_inception_distance_mean"]


def precision_and_recall_by_fidelity(case: Case, neighbours: int) -> tuple[float, float]:
    found = metric_prc.prc_features_to_metric(
        case.generated, case.real, prc_neighborhood=neighbours, prc_batch_size=10000, save_cpu_ram=False, verbose=False
    )
    return found["precision"], found["recall"]


def fid_by_loop(case: Case, less: int = 1) -> float:
    """less: of the covariance's divisor."""
    means, covariances = [], []
    for x in case:
        rows = x.tolist()
        n, d = len(rows), len(rows[0])
        mean = [sum(row[i] for row in rows) / n for i in range(d)]
        covariances.append(
            [
                [sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / (n - less) for j in range(d)]
                for i in range(d)
            ]
        )
        means.append(mean)
    root = linalg.sqrtm(np.array(covariances[0]) @ np.array(covariances[1])).real
    apart = sum((a - b) ** 2 for a, b in zip(*means, strict=True))
    return float(apart + sum(np.trace(np.array(c)) for c in covariances) - 2 * np.trace(root))


def kid_by_loop(case: Case, biased: bool = False) -> float:
    def kernel(x: list[float], y: list[float]) -> float:
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def mean(xs: list[list[float]], ys: list[list[float]], same: bool) -> float:
        values = [kernel(x, y) for i, x in enumerate(xs) for j, y in enumerate(ys) if biased or not same or i != j]
        return sum(values) / len(values)

    real, generated = (x.tolist() for x in case)
    return mean(real, real, True) + mean(generated, generated, True) - 2 * mean(real, generated, False)


def precision_and_recall_by_loop(case: Case, neighbours: int) -> tuple[float, float]:
    def within(rows: list[list[float]], centres: list[list[float]]) -> float:
        radii = []
        for i, centre in enumerate(centres):
            others = sorted(math.dist(centre, other) for j, other in enumerate(centres) if j != i)
            radii.append(others[neighbours - 1])
        inside = [any(math.dist(row, c) <= r for c, r in zip(centres, radii, strict=True)) for row in rows]
        return sum(inside) / len(rows)

    real, generated = (x.tolist() for x in case)
    return within(generated, real), within(real, generated)


def is_close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * abs(other)


@pytest.mark.parametrize("case", cases(), ids=["60x5", "700x48"])
def test_all_three_as_torch_fidelity_has_them(case: Case) -> None:
    assert is_close(frechet_distance(*case), fid_by_fidelity(case))
    assert is_close(kernel_distance(*case), kid_by_fidelity(case))
    for neighbours in (1, 3, 5):
        expected = precision_and_recall_by_fidelity(case, neighbours)
        assert precision_and_recall(*case, neighbours) == pytest.approx(
            expected, rel=TOLERANCE
        )  # its means are float32


def test_all_three_as_written_out_also_for_sets_of_two_sizes() -> None:
    case = Case(draw(60, 5, 1), draw(41, 5, 2) * 1.3)
    assert is_close(frechet_distance(*case), fid_by_loop(case))
    assert is_close(kernel_distance(*case), kid_by_loop(case))
    assert precision_and_recall(*case) == precision_and_recall_by_loop(case, 3)


def test_negative_control_each_of_the_usual_mistakes_is_seen() -> None:
    case = cases()[0]
    assert not is_close(frechet_distance(*case), fid_by_loop(case, less=0))  # divisor n
    assert not is_close(kernel_distance(*case), kid_by_loop(case, biased=True))
    precision, recall = precision_and_recall(*case)
    assert (recall, precision) != precision_and_recall_by_loop(case, 3)  # swapped
    assert (precision, recall) != precision_and_recall_by_loop(case, 2)


def test_the_frechet_distance_of_features_of_a_lower_rank_keeps_its_digits() -> None:
    """Features of 8 dimensions lie in a space of 200 and are as far apart as before; the root of the eigenvalues of
    Σ₁ Σ₂ is not as good there."""
    low = Case(draw(90, 8, 5), draw(70, 8, 6) * 1.02)
    basis = torch.linalg.qr(torch.randn(200, 8, generator=stream(0, "distances.basis"), dtype=torch.float64)).Q
    high = Case(*(x @ basis.T + 5 for x in low))
    expected = frechet_distance(*low)
    assert frechet_distance(*high) == pytest.approx(expected, rel=1e-11)
    assert abs(fid_by_fidelity(high) - expected) > 1e-9 * expected


def test_equal_sets_are_not_apart_and_cover_each_other() -> None:
    features = draw(300, 20, 7)
    assert abs(frechet_distance(features, features.flip(0))) < 1e-12
    assert precision_and_recall(features, features.flip(0)) == (1.0, 1.0)
    assert kernel_distance(features, features) < 0  # unbiased: pairs of equal images are on one side alone


def test_copies_are_on_the_surface_of_a_ball_without_radius() -> None:
    """Generated images that are all one real image, of which there are as many copies as neighbours are asked for."""
    image = draw(1, 6, 8) * 1e3 + 1 / 3
    real = torch.cat((image.expand(5, 6), draw(40, 6, 9)))
    assert precision_and_recall(real, image.expand(30, 6)) == (1.0, 5 / 45)


@pytest.mark.parametrize("name", ["frechet_distance", "kernel_distance", "precision_and_recall"])
def test_float32_features_are_worked_on_in_float64(name: str) -> None:
    case = Case(*(x.float() for x in cases()[1]))
    measure = getattr(distances, name)
    assert measure(*case) == measure(*(x.double() for x in case))

"""CutMix against a straight-line account of the authors' rule; each comparison has a twin with our code broken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.streams import stream
from paribus.techniques import cutmix as ours
from paribus.techniques.cutmix import CutMix, Mix, beta, cutmix, draw, rand_bbox


def authors_box(lam: float, size: tuple[int, int], centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """NumPy, by the facts: truncate S·sqrt(1−λ), halve rounding down, clip centre ∓ half to the image."""
    (h, w), (a, b) = size, centre
    ratio = np.sqrt(1.0 - lam)
    ch, cw = int(h * ratio), int(w * ratio)
    top, bottom = np.clip(a - ch // 2, 0, h), np.clip(a + ch // 2, 0, h)
    left, right = np.clip(b - cw // 2, 0, w), np.clip(b + cw // 2, 0, w)
    return int(top), int(left), int(bottom), int(right)


def authors_step(x: np.ndarray, y: np.ndarray, partners: np.ndarray, box: tuple[int, int, int, int], classes: int):
    """Pixels pasted by slicing, one image at a time; targets as the weights of the two cross entropies."""
    top, left, bottom, right = box
    mixed = x.copy()
    weights = np.zeros((len(x), classes), dtype=np.float64)
    lam = 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
    for i, j in enumerate(partners):
        mixed[i, :, top:bottom, left:right] = x[j, :, top:bottom, left:right]
        weights[i, y[i]] += lam
        weights[i, y[j]] += 1 - lam
    return mixed, weights, lam


def numbers_of(generator_seed: int, n: int, height: int, width: int, alpha: float, prob: float):
    """What `draw` draws, drawn again in its documented order: decision, λ, partners, centre row, centre column."""
    g = torch.Generator().manual_seed(generator_seed)
    decision = float(torch.rand((), generator=g, dtype=torch.float64))
    if decision >= prob:
        return None
    lam = beta(alpha, g)
    partners = torch.randperm(n, generator=g)
    centre = int(torch.randint(height, (), generator=g)), int(torch.randint(width, (), generator=g))
    return lam, partners.numpy(), centre


cases = given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 9),
    c=st.integers(1, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    alpha=st.sampled_from([0.1, 0.2, 0.5, 1.0, 4.0]),
    prob=st.sampled_from([0.0, 0.5, 1.0]),
    kind=st.sampled_from([torch.float32, torch.float64, torch.uint8, torch.bfloat16]),
    soft=st.booleans(),
)


def agrees(seed, n, c, height, width, alpha, prob, kind, soft) -> bool:
    classes = 5
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, c, height, width))
    x, y = torch.from_numpy(pixels).to(kind), torch.from_numpy(rng.integers(0, classes, n))
    before = x.clone()
    targets = F.one_hot(y, classes).double() if soft else y
    got_x, got_y = cutmix(x, targets, classes, alpha, prob, torch.Generator().manual_seed(seed))
    assert torch.equal(x, before)
    drawn = numbers_of(seed, n, height, width, alpha, prob)
    if drawn is None:
        return torch.equal(got_x, x) and torch.equal(got_y.double(), F.one_hot(y, classes).double())
    lam, partners, centre = drawn
    box = authors_box(lam, (height, width), centre)
    want_x, want_y, _ = authors_step(pixels, y.numpy(), partners, box, classes)
    exact = 1e-15 if got_y.dtype == torch.float64 else 1e-7
    return bool(
        torch.equal(got_x, torch.from_numpy(want_x).to(kind))
        and got_x.dtype == kind
        and np.abs(got_y.double().numpy() - want_y).max() <= exact
    )


@settings(max_examples=400, deadline=None)
@cases
def test_pixels_and_targets_are_the_authors(**case) -> None:
    assert agrees(**case)


CASE = {"n": 6, "c": 3, "height": 17, "width": 29, "alpha": 1.0, "prob": 1.0, "kind": torch.float32, "soft": False}


def _uncorrected(n, height, width, alpha, prob, generator):
    mix = draw(n, height, width, alpha, prob, generator)
    return mix if mix is None else replace(mix, lam=mix.lam * 0.9)


def _swapped(lam, height, width, generator):
    top, left, bottom, right = rand_bbox(lam, width, height, generator)
    return left, top, right, bottom


def _odd(lam, height, width, generator):
    top, left, bottom, right = rand_bbox(lam, height, width, generator)
    return top, left, min(bottom + 1, height), right


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("draw", _uncorrected),
        ("rand_bbox", _swapped),
        ("rand_bbox", _odd),
        ("inside", lambda box, h, w: torch.zeros(len(box), 1, h, w, dtype=torch.bool)),
        ("inside", lambda box, h, w: torch.ones(len(box), 1, h, w, dtype=torch.bool)),
    ],
    ids=["λ not corrected", "height and width swapped", "odd boxes", "no pixels", "all pixels"],
)
def test_twin_broken_code_does_not_agree(name: str, broken, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(agrees(seed, **CASE) for seed in range(10))
    monkeypatch.setattr(ours, name, broken)
    assert not all(agrees(seed, **CASE) for seed in range(10))


def two_term_loss(logits, y, partners, lam):
    return lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[partners])


def test_one_soft_cross_entropy_is_the_authors_two() -> None:
    y, logits = torch.tensor([0, 3, 1, 4, 4, 2]), torch.randn(6, 5, dtype=torch.float64, generator=stream(0, "logits"))
    off_by = []
    for seed in range(20):
        drawn = numbers_of(seed, 6, 8, 8, 1.0, 1.0)
        assert drawn is not None
        lam, partners, centre = drawn
        top, left, bottom, right = authors_box(lam, (8, 8), centre)
        corrected = 1 - (bottom - top) * (right - left) / 64
        _, soft = cutmix(
            torch.zeros(6, 3, 8, 8, dtype=torch.float64), y, 5, generator=torch.Generator().manual_seed(seed)
        )
        ours_loss = F.cross_entropy(logits, soft)
        assert abs(ours_loss - two_term_loss(logits, y, torch.from_numpy(partners), corrected)) < 1e-14
        off_by.append(float(abs(ours_loss - two_term_loss(logits, y, torch.from_numpy(partners), lam))))
    assert max(off_by) > 1e-3  # twin: the λ from before the box was clipped is another one


def pasted_areas(size: int, n: int) -> torch.Tensor:
    mixes = [draw(1, size, size, 1.0, 1.0, stream(0, "areas", i)) for i in range(n)]
    return torch.stack([1 - m.lam[0] for m in mixes if m is not None])


def test_the_mean_pasted_area_is_the_exact_expectation_at_32_px() -> None:
    areas = pasted_areas(32, 10_000)
    assert abs(areas.mean() - 0.299251) < 3 * areas.std() / 10_000**0.5
    assert abs((areas == 0).double().mean() - 0.0039) < 3 * (0.0039 / 10_000) ** 0.5


def test_twin_boxes_that_keep_odd_sides_have_another_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "rand_bbox", _odd)
    areas = pasted_areas(32, 10_000)
    assert abs(areas.mean() - 0.299251) > 3 * areas.std() / 10_000**0.5


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    g = stream(0, "beta", str(alpha))
    sample = [beta(alpha, g) for _ in range(4000)]
    assert stats.kstest(sample, stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert stats.kstest(sample, stats.beta(alpha * 1.5, alpha).cdf).pvalue < 0.001


def test_a_vanishing_alpha_is_a_coin_and_never_nan() -> None:
    g = stream(0, "tiny")
    assert {beta(1e-6, g) for _ in range(50)} == {0.0, 1.0}


def test_how_often_a_batch_is_mixed() -> None:
    mixed = sum(draw(2, 8, 8, 1.0, 0.5, stream(0, "prob", i)) is not None for i in range(4000))
    assert abs(mixed - 2000) < 3 * 1000**0.5


def batch_of(n: int, positions: list[int], fetch=None) -> Batch:
    images = torch.rand(n, 3, 9, 11, generator=stream(0, "images"))
    targets = torch.arange(n) % 4

    def make(where: torch.Tensor) -> Batch:
        return Batch(images[where], targets[where], where, where, n, 4, make if fetch else None)

    return make(torch.tensor(positions))


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_any_split_over_processes_trains_on_the_same_pixels(parts: int) -> None:
    transform, at = CutMix(), Progress(5, 10, 0)
    whole = transform(batch_of(12, list(range(12))), at)
    share = 12 // parts
    made = [transform(batch_of(12, list(range(r * share, (r + 1) * share)), fetch=True), at) for r in range(parts)]
    assert torch.equal(whole.inputs, torch.cat([b.inputs for b in made]))
    assert torch.equal(whole.targets, torch.cat([b.targets for b in made]))
    twice = [transform(b, Progress(6, 10, 0)) for b in made]  # partners of the second mix are mixed already
    again = transform(whole, Progress(6, 10, 0))
    assert torch.equal(again.inputs, torch.cat([b.inputs for b in twice]))
    assert torch.equal(again.targets, torch.cat([b.targets for b in twice]))


def test_twin_partners_from_the_own_part_only_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, at = CutMix(), Progress(5, 10, 0)
    whole = transform(batch_of(12, list(range(12))), at)
    monkeypatch.setattr(Batch, "peers", lambda self, places: replace(self, inputs=self.inputs.flip(0)))
    parts = [transform(batch_of(12, list(range(r, r + 6)), fetch=True), at) for r in (0, 6)]
    assert not torch.equal(whole.inputs, torch.cat([b.inputs for b in parts]))


def test_apply_compiles_without_a_break() -> None:
    mix = draw(4, 8, 8, 1.0, 1.0, stream(0, "compile"))
    assert mix is not None
    x, y = torch.rand(4, 3, 8, 8), torch.eye(4)
    explained = torch._dynamo.explain(lambda *a: ours.apply(*a[:4], Mix(*a[4:])))(
        x, y, x.flip(0), y.flip(0), mix.partners, mix.box, mix.lam
    )
    assert explained.graph_break_count == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"inputs": torch.zeros(4, 3, 8)},
        {"alpha": 0.0},
        {"alpha": float("nan")},
        {"prob": 1.5},
        {"prob": -0.1},
        {"num_classes": None},
        {"num_classes": 2},
        {"targets": torch.tensor([0, 1, 2, -1])},
        {"targets": torch.tensor([0, 1, 2])},
        {"targets": torch.ones(3, 3)},
    ],
)
def test_bad_arguments_are_told(bad: dict) -> None:
    good = {"inputs": torch.zeros(4, 3, 8, 8), "targets": torch.tensor([0, 1, 2, 0]), "num_classes": 3}
    cutmix(**good)
    with pytest.raises(ValueError, match="CutMix needs"):
        cutmix(**{**good, **bad})

"""CutMix against a straight-line account of every rule it offers, bit for bit; each comparison has a negative
control with our code broken."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from paribus.core.batch import Batch
from paribus.core.mixing import sample_beta, sample_betas
from paribus.core.progress import Progress
from paribus.core.streams import stream
from paribus.techniques import cutmix as ours
from paribus.techniques.cutmix import CutMix, bbox, bboxes, cutmix, draw

CLASSES = 5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_by_the_facts(lam: float, size: tuple[int, int], centre: tuple[int, int], rule: str) -> tuple[int, ...]:
    """Truncate S·sqrt(1−λ), halve rounding down (timm's upper half rounds up), clip centre ∓ half to the image."""
    ends = []
    for s, c in zip(size, centre, strict=True):
        side = int(s * np.sqrt(1.0 - lam))
        upper = side - side // 2 if rule == "timm" else side // 2
        ends.append(np.clip([c - side // 2, c + upper], 0, s))
    return int(ends[0][0]), int(ends[1][0]), int(ends[0][1]), int(ends[1][1])


def numbers_of(seed: int, n: int, height: int, width: int, rule: CutMix) -> list[tuple[Any, ...]]:
    """What `draw` draws, drawn again in its documented order, as (λ, partner, centre) or () for each sample."""
    g, count = seeded(seed), n if rule.per == "sample" else 1
    mixed = torch.rand(count, generator=g, dtype=torch.float64).numpy() < rule.prob
    if not mixed.any():
        return [()] * n
    lam = sample_betas(rule.alpha, n, g).tolist() if rule.per == "sample" else [sample_beta(rule.alpha, g)]
    match rule.partner:
        case "roll":
            partners = [(i - 1) % n for i in range(n)]
        case "flip":
            partners = [n - 1 - i for i in range(n)]
        case _:
            partners = torch.randperm(n, generator=g).tolist()
            while rule.partner == "derangement" and n > 1 and any(i == j for i, j in enumerate(partners)):
                partners = torch.randperm(n, generator=g).tolist()
    rows, columns = (torch.randint(s, (count,), generator=g).tolist() for s in (height, width))
    k = [i if count > 1 else 0 for i in range(n)]
    return [(lam[k[i]], partners[i], (rows[k[i]], columns[k[i]])) if mixed[k[i]] else () for i in range(n)]


def by_hand(x: np.ndarray, weights: np.ndarray, drawn: list[tuple[Any, ...]], rule: CutMix) -> tuple[Any, Any]:
    """Pixels pasted by slicing, one image at a time; both rows of weights times their share, in their own precision."""
    pixels, labels, one = x.copy(), weights.copy(), weights.dtype.type(1)
    height, width = x.shape[2:]
    for i, numbers in enumerate(drawn):
        if numbers:
            lam, j, centre = numbers
            top, left, bottom, right = box_by_the_facts(lam, (height, width), centre, rule.box)
            pixels[i, :, top:bottom, left:right] = x[j, :, top:bottom, left:right]
            if rule.correct_lam:
                lam = 1 - (bottom - top) * (right - left) / (height * width)
            share = weights.dtype.type(lam)
            labels[i] = share * weights[i] + (one - share) * weights[j]
    return pixels, labels


def configuration(seed: int) -> dict[str, Any]:
    """Any of the kinds of batch and rule that CutMix takes."""
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    return {
        "shape": (
            int(rng.integers(1, 10)),
            int(rng.integers(1, 5)),
            int(rng.integers(1, 41)),
            int(rng.integers(1, 41)),
        ),
        "kind": pick(torch.float32, torch.float64, torch.uint8, torch.bfloat16, torch.float16),
        "layout": pick(torch.contiguous_format, torch.channels_last),
        "targets": pick("int64", "int32", "float32", "float64"),
        "rule": CutMix(
            alpha=pick(0.1, 0.2, 0.5, 1.0, 4.0),
            prob=pick(0.0, 0.5, 1.0, 1.0),
            box=pick("authors", "timm"),
            partner=pick("permutation", "derangement", "roll", "flip"),
            per=pick("batch", "sample"),
            correct_lam=pick(True, False),
        ),
    }


def options_of(rule: CutMix) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in ("alpha", "prob", "box", "partner", "per", "correct_lam")}


def agrees(seed: int, shape=(6, 3, 17, 29), kind=torch.float32, layout=None, targets="int64", rule: Any = None) -> bool:
    """That the function and the tensors-only form both give the oracle's bits."""
    rule, rng = rule or CutMix(), np.random.default_rng(seed)
    n, _, height, width = shape
    values = rng.integers(0, 256, shape)
    x = torch.from_numpy(values).to(kind).contiguous(memory_format=layout or torch.contiguous_format)
    ids = rng.integers(0, CLASSES, n)
    if targets.startswith("int"):
        y = torch.from_numpy(ids.astype(targets))
        weights = np.eye(CLASSES, dtype=np.float64 if kind == torch.float64 else np.float32)[ids]
    else:
        weights = rng.dirichlet(np.ones(CLASSES), n).astype(targets)
        y = torch.from_numpy(weights.copy())
    before = x.clone(), y.clone()
    want_x, want_y = by_hand(values, weights, numbers_of(seed, n, height, width, rule), rule)

    made = [cutmix(x, y, CLASSES, generator=seeded(seed), **options_of(rule))]
    mix = draw(n, height, width, rule, seeded(seed))
    if mix is not None:
        made.append(ours.apply(x, y, x[mix.partners], y[mix.partners], mix, CLASSES))
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    return all(
        torch.equal(got_x, torch.from_numpy(want_x).to(kind))
        and got_x.dtype == kind
        and got_x.is_contiguous(memory_format=layout or torch.contiguous_format)
        and np.array_equal(got_y.numpy(), want_y)
        and got_y.numpy().dtype == want_y.dtype
        for got_x, got_y in made
    )


@pytest.mark.parametrize("first", range(0, 10_000, 2_500))
def test_any_configuration_equals_the_oracle_bit_for_bit(first: int) -> None:
    wrong = [seed for seed in range(first, first + 2_500) if not agrees(seed, **configuration(seed))]
    assert wrong == []


PER = {per: CutMix(per=per) for per in ("batch", "sample")}


def _uncorrected(n, height, width, rule, generator):
    mix = draw(n, height, width, rule, generator)
    return mix if mix is None else replace(mix, lam=mix.lam * 0.9)


def _next_image(n, height, width, rule, generator):
    mix = draw(n, height, width, rule, generator)
    return mix if mix is None else replace(mix, partners=mix.partners.roll(1))


def _swapped(lam, centre, height, width, rule):
    top, left, bottom, right = bbox(lam, centre, height, width, rule)
    return min(left, height), min(top, width), min(right, height), min(bottom, width)


def _swapped_each(lam, centre, height, width, rule):
    return torch.minimum(bboxes(lam, centre, height, width, rule)[:, [1, 0, 3, 2]], torch.tensor([height, width] * 2))


CONTROLS = {
    "λ not corrected": ("draw", _uncorrected),
    "other partners": ("draw", _next_image),
    "height and width swapped": ("bbox", _swapped),
    "height and width of each swapped": ("bboxes", _swapped_each),
    "timm's box": ("bbox", lambda *a: bbox(*a[:-1], "timm")),
    "timm's boxes": ("bboxes", lambda *a: bboxes(*a[:-1], "timm")),
    "no pixels": ("paste", lambda x, others, rows, box: x.clone()),
    "all pixels": ("paste", lambda x, others, rows, box: others[rows].contiguous()),
    "no pixels by mask": ("box_mask", lambda box, h, w: torch.zeros(len(box), 1, h, w, dtype=torch.bool)),
    "labels of the sample itself": ("mix_targets", lambda own, other, *a: _mixed_targets(own, own, *a)),
    "shares swapped": ("mix_targets", lambda a, b, share, rest, n: _mixed_targets(a, b, rest, share, n)),
}
_mixed_targets = ours.mix_targets


@pytest.mark.parametrize("control", CONTROLS)
def test_negative_control_broken_code_does_not_agree(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(agrees(seed, rule=rule) for seed in range(10) for rule in PER.values())
    monkeypatch.setattr(ours, *CONTROLS[control])
    assert not all(agrees(seed, rule=rule) for seed in range(10) for rule in PER.values())


def test_one_sample_of_its_own_is_a_batch_of_one() -> None:
    for seed in range(500):
        both = [draw(1, 31, 24, CutMix(per=per, alpha=0.5, prob=0.9), seeded(seed)) for per in ("batch", "sample")]
        if both[0] is None:
            assert both[1] is None
        else:
            assert all(torch.equal(getattr(both[0], k), getattr(both[1], k)) for k in ("partners", "box_tlbr", "lam"))


@pytest.mark.parametrize("box", ["authors", "timm"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_pasted_pixels_over_all_pixels_is_exactly_one_minus_lambda(box: Any, per: Any) -> None:
    rule = CutMix(box=box, per=per, partner="derangement")
    for seed in range(300):
        height, width = 1 + seed % 33, 1 + seed % 29
        marks = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, height, width)
        mix = draw(6, height, width, rule, seeded(seed))
        assert mix is not None
        mixed, weights = cutmix(marks, torch.arange(6), 6, generator=seeded(seed), **options_of(rule))
        for i, j in enumerate(mix.partners.tolist()):
            pasted = int((mixed[i, 0] == j).sum())
            assert torch.equal(mixed[i], mixed[i, :1].expand(3, -1, -1))
            lam = float(mix.lam[i if per == "sample" else 0])
            assert lam == 1 - pasted / (height * width)
            assert weights[i, i] == np.float32(lam)
            assert weights[i, j] == np.float32(1) - np.float32(lam)
            assert weights[i].count_nonzero() == (lam > 0) + (lam < 1)


def test_negative_control_an_uncorrected_lambda_is_another_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "draw", _uncorrected)
    with pytest.raises(AssertionError):
        test_pasted_pixels_over_all_pixels_is_exactly_one_minus_lambda("authors", "batch")


def test_a_box_may_be_empty_or_cover_everything() -> None:
    x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 6).contiguous()
    for lam, centre, want in ((1.0, (3, 3), x), (0.0, (4, 3), x.flip(0))):
        box = torch.tensor([bbox(lam, centre, 8, 6, "authors")])
        for boxes in (box, box.expand(2, 4)):
            assert torch.equal(ours.paste(x, x, torch.tensor([1, 0]), boxes), want)


def two_term_loss(logits, y, partners, lam):
    return lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[partners])


def test_one_soft_cross_entropy_is_the_authors_two() -> None:
    y, logits = torch.tensor([0, 3, 1, 4, 4, 2]), torch.randn(6, 5, dtype=torch.float64, generator=stream(0, "logits"))
    off_by = []
    for seed in range(20):
        lam, _, centre = numbers_of(seed, 6, 8, 8, CutMix())[0]
        partners = torch.tensor([numbers[1] for numbers in numbers_of(seed, 6, 8, 8, CutMix())])
        top, left, bottom, right = box_by_the_facts(lam, (8, 8), centre, "authors")
        corrected = 1 - (bottom - top) * (right - left) / 64
        _, soft = cutmix(torch.zeros(6, 3, 8, 8, dtype=torch.float64), y, 5, generator=seeded(seed))
        ours_loss = F.cross_entropy(logits, soft)
        assert abs(ours_loss - two_term_loss(logits, y, partners, corrected)) < 1e-14
        off_by.append(float(abs(ours_loss - two_term_loss(logits, y, partners, lam))))
        _, soft = cutmix(torch.zeros(6, 3, 8, 8, dtype=torch.float64), y, 5, generator=seeded(seed), correct_lam=False)
        assert abs(F.cross_entropy(logits, soft) - two_term_loss(logits, y, partners, lam)) < 1e-14
    assert max(off_by) > 1e-3  # negative control: the λ from before the box was clipped is another one


def exact_area(size: int, rule: str) -> float:
    """Expected share of pasted pixels for α = 1: a side is k where k ≤ S√u < k + 1 for a uniform u, and the clipped
    height and width are two draws for that side."""
    total = 0.0
    for k in range(size):
        upper = k - k // 2 if rule == "timm" else k // 2
        mean = np.mean([min(c + upper, size) - max(c - k // 2, 0) for c in range(size)])
        total += ((k + 1) ** 2 - k**2) / size**2 * (mean / size) ** 2
    return total


def pasted_areas(size: int, n: int, rule: CutMix) -> torch.Tensor:
    mixes = [draw(1, size, size, rule, stream(0, "areas", i)) for i in range(n)]
    return torch.stack([1 - m.lam[0] for m in mixes if m is not None])


def test_the_exact_mean_area_is_the_known_one() -> None:
    assert abs(exact_area(32, "authors") - 0.299251) < 5e-7
    assert abs(exact_area(32, "timm") - 0.3099) < 5e-4


@pytest.mark.parametrize(("box", "other"), [("authors", "timm"), ("timm", "authors")])
def test_the_mean_pasted_area_is_the_exact_expectation_at_32_px(box: Any, other: Any) -> None:
    # σ of one area is 0.236, so with n = 10,000 the test sees a shift of 3 · 0.00236; the rules are 0.0107 apart
    areas = pasted_areas(32, 10_000, CutMix(box=box))
    error = float(areas.std()) / 10_000**0.5
    assert abs(float(areas.mean()) - exact_area(32, box)) < 3 * error
    assert abs(float(areas.mean()) - exact_area(32, other)) > 3 * error  # negative control: the other rule is noticed


def test_boxes_are_empty_as_often_as_they_should_at_32_px() -> None:
    areas = pasted_areas(32, 10_000, CutMix())
    assert abs((areas == 0).double().mean() - 4 / 1024) < 3 * (4 / 1024 / 10_000) ** 0.5


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0])
def test_lambda_is_beta_distributed(alpha: float) -> None:
    g = stream(0, "beta", str(alpha))
    sample = sample_betas(alpha, 4000, g)
    assert stats.kstest(sample, stats.beta(alpha, alpha).cdf).pvalue > 0.001
    assert stats.kstest(sample, stats.beta(alpha * 1.5, alpha).cdf).pvalue < 0.001


@pytest.mark.parametrize("alpha", [0.05, 1.0, 30.0])
def test_one_beta_number_is_the_first_of_many(alpha: float) -> None:
    for seed in range(300):
        assert sample_beta(alpha, seeded(seed)) == pytest.approx(
            float(sample_betas(alpha, 1, seeded(seed))), rel=0, abs=1e-14
        )


def test_a_vanishing_alpha_is_a_coin_and_never_nan() -> None:
    g = stream(0, "tiny")
    assert {sample_beta(1e-6, g) for _ in range(50)} == {0.0, 1.0}
    assert set(sample_betas(1e-6, 50, g).tolist()) == {0.0, 1.0}


def test_how_often_a_batch_is_mixed() -> None:
    mixed = sum(draw(2, 8, 8, CutMix(prob=0.5), stream(0, "prob", i)) is not None for i in range(4000))
    assert abs(mixed - 2000) < 3 * 1000**0.5


def test_each_sample_decides_for_itself() -> None:
    mix = draw(4000, 8, 8, CutMix(prob=0.25, per="sample", correct_lam=False), stream(0, "each"))
    assert mix is not None
    left_alone = mix.lam == 1.0
    assert abs(int(left_alone.sum()) - 3000) < 3 * 750**0.5
    assert (mix.box_tlbr[left_alone, :2] == mix.box_tlbr[left_alone, 2:]).any(1).all()


def test_a_derangement_is_any_permutation_that_moves_everybody() -> None:
    rule, g = CutMix(partner="derangement"), stream(0, "derangement")
    drawn = [tuple(mix.partners.tolist()) for _ in range(1800) if (mix := draw(4, 8, 8, rule, g)) is not None]
    assert all(i != j for partners in drawn for i, j in enumerate(partners))
    counts = [drawn.count(partners) for partners in set(drawn)]
    assert len(counts) == 9
    assert stats.chisquare(counts).pvalue > 0.001
    alone = draw(1, 8, 8, rule, g)
    assert alone is not None
    assert alone.partners.tolist() == [0]


def batch_of(n: int, positions: list[int], fetch=None) -> Batch:
    images = torch.rand(n, 3, 9, 11, generator=stream(0, "images"))
    targets = torch.arange(n) % 4

    def make(where: torch.Tensor) -> Batch:
        return Batch(images[where], targets[where], where, where, n, 4, make if fetch else None)

    return make(torch.tensor(positions))


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_any_split_over_processes_trains_on_the_same_pixels(parts: int, per: Any) -> None:
    transform, at = CutMix(per=per), Progress(5, 10, 0)
    whole = transform(batch_of(12, list(range(12))), at)
    share = 12 // parts
    made = [transform(batch_of(12, list(range(r * share, (r + 1) * share)), fetch=True), at) for r in range(parts)]
    assert torch.equal(whole.inputs, torch.cat([b.inputs for b in made]))
    assert torch.equal(whole.targets, torch.cat([b.targets for b in made]))
    twice = [transform(b, Progress(6, 10, 0)) for b in made]  # partners of the second mix are mixed already
    again = transform(whole, Progress(6, 10, 0))
    assert torch.equal(again.inputs, torch.cat([b.inputs for b in twice]))
    assert torch.equal(again.targets, torch.cat([b.targets for b in twice]))


def test_negative_control_partners_from_the_own_part_only_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    transform, at = CutMix(), Progress(5, 10, 0)
    whole = transform(batch_of(12, list(range(12))), at)
    monkeypatch.setattr(Batch, "peers", lambda self, places: replace(self, inputs=self.inputs.flip(0)))
    parts = [transform(batch_of(12, list(range(r, r + 6)), fetch=True), at) for r in (0, 6)]
    assert not torch.equal(whole.inputs, torch.cat([b.inputs for b in parts]))


def test_a_gradient_reaches_the_pixels_that_were_pasted() -> None:
    x = torch.rand(4, 3, 8, 8, generator=stream(0, "grad"), requires_grad=True)
    y, drawn = torch.arange(4), draw(4, 8, 8, CutMix(), seeded(3))
    assert drawn is not None
    mixed, _ = cutmix(x, y, 4, generator=seeded(3))
    plain, _ = cutmix(x.detach(), y, 4, generator=seeded(3))
    assert torch.equal(mixed, plain)
    mixed.sum().backward()
    top, left, bottom, right = drawn.box_tlbr[0].tolist()
    assert x.grad is not None
    assert (x.grad == 1).all()  # each pixel is used once: the partners are a permutation
    assert 0 < (bottom - top) * (right - left) < 64


@pytest.mark.parametrize(
    "bad",
    [
        {"inputs": torch.zeros(4, 3, 8)},
        {"num_classes": None},
        {"num_classes": 2},
        {"targets": torch.tensor([0, 1, 2, -1])},
        {"targets": torch.tensor([0, 1, 2])},
        {"targets": torch.ones(3, 3)},
        {"targets": torch.ones(4, 2)},
        {"targets": torch.ones(4, 3, dtype=torch.int64)},
        {"targets": torch.zeros(4)},
        {"prob": 0.0, "num_classes": 2},
    ],
)
def test_bad_arguments_are_told(bad: dict) -> None:
    good = {"inputs": torch.zeros(4, 3, 8, 8), "targets": torch.tensor([0, 1, 2, 0]), "num_classes": 3}
    cutmix(**good)
    with pytest.raises(ValueError, match="CutMix needs"):
        cutmix(**{**good, **bad})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"alpha": 0.0}, "alpha: found 0.0; should be greater than 0"),
        ({"alpha": float("nan")}, "alpha: found nan"),
        ({"prob": 1.5}, "prob: found 1.5; should be less than or equal to 1"),
        ({"prob": -0.1}, "prob: found -0.1"),
        ({"box": "torchvision"}, "box: found 'torchvision'; should be 'authors' or 'timm'"),
        ({"partner": "reverse"}, "partner: found 'reverse'"),
        ({"per": "image"}, "per: found 'image'"),
        ({"correct_lambda": True}, "correct_lambda: no such key .did you mean correct_lam"),
    ],
)
def test_bad_settings_are_told(bad: dict, said: str) -> None:
    with pytest.raises(ValueError, match=f"CutMix.{said}"):
        cutmix(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), 3, **bad)

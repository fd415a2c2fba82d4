"""Mixup against equation 1 written out in NumPy, seen from outside: which share, which partners, which targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from helpers.split_batches import same_in_parts
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.streams import stream
from paribus.techniques import mixup as module
from paribus.techniques.cutmix import CutMix
from paribus.techniques.mixup import Mixup, mixup

N, CLASSES = 12, 5
AT = Progress(step=3, total=10, seed=7, steps_per_epoch=4)


def whole(n: int = N, inputs: Tensor | None = None) -> Batch:
    generator = stream(0, "test.mixup")
    if inputs is None:
        inputs = torch.randn(n, 3, 8, 6, generator=generator)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    return Batch(inputs, targets, ids=100 + torch.arange(n), positions=torch.arange(n), size=n, classes=CLASSES)


def seen_from_outside(transform: Mixup, at: Progress) -> tuple[float, np.ndarray]:
    """(λ, partners) of the batch of a step, read off the pixels of a batch whose image i is 1 at pixel i and 0
    elsewhere."""
    marks = torch.eye(N, dtype=torch.float64).view(N, 1, N, 1)
    weights = transform(whole(inputs=marks), at).inputs.view(N, N).numpy()
    partners = [next((j for j in np.nonzero(row)[0] if j != i), i) for i, row in enumerate(weights)]
    moved = next(i for i, partner in enumerate(partners) if partner != i)
    return float(weights[moved, moved]), np.array(partners)


def equation_1(x: np.ndarray, y: np.ndarray, lam: float, partners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels, targets = np.zeros(x.shape), np.zeros((len(x), CLASSES))
    for i in range(len(x)):
        pixels[i] = lam * x[i].astype(np.float64) + (1 - lam) * x[partners[i]].astype(np.float64)
        targets[i, y[i]] += lam
        targets[i, y[partners[i]]] += 1 - lam
    return pixels, targets


def differences(step: int = 3) -> tuple[float, float]:
    """Largest difference from equation 1 in pixels and in targets."""
    at, batch = replace(AT, step=step), whole()
    lam, partners = seen_from_outside(Mixup(), at)
    assert sorted(partners) == list(range(N))
    pixels, targets = equation_1(batch.inputs.numpy(), batch.targets.numpy(), lam, partners)
    out = Mixup()(batch, at)
    return np.abs(out.inputs.numpy() - pixels).max(), np.abs(out.targets.numpy() - targets).max()


@pytest.mark.parametrize("step", range(5))
def test_pixels_and_targets_are_those_of_equation_1(step):
    pixels, targets = differences(step)
    assert pixels < 1e-6
    assert targets < 1e-6


_apply, _draw = module.apply, module.draw


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("apply", lambda *a: (_apply(*a)[0], F.one_hot(a[1], CLASSES).float())),
        ("apply", lambda x, y, px, py, *m: (_apply(x, y, px, py, *m)[0], _apply(px, py, x, y, *m)[1])),
        ("apply", lambda x, y, px, py, *m: (_apply(x, y, px, py, *m)[0], _apply(x, y, px, py.flip(0), *m)[1])),
    ],
    ids=["targets not mixed", "shares swapped", "targets of other partners"],
)
def test_negative_control_targets_that_do_not_follow_the_pixels_are_noticed(name, wrong, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    assert differences()[1] > 1e-3


def test_both_factors_are_rounded_from_float64_as_python_numbers_are():
    drawn = Mixup().draw(AT, N)
    lam, partners, x = float(drawn.lam[0]), drawn.partners, whole().inputs
    assert torch.equal(Mixup()(whole(), AT).inputs, lam * x + (1 - lam) * x[partners])


def loss_gap(shares) -> float:
    """Soft targets against two cross entropies, on the same logits, in float64."""
    batch = whole()
    drawn = Mixup().draw(AT, N)
    logits = torch.randn(N, CLASSES, generator=stream(1, "test.mixup"), dtype=torch.float64)
    ours = F.cross_entropy(logits, Mixup()(replace(batch, inputs=batch.inputs.double()), AT).targets)
    a, b = (F.cross_entropy(logits, y) for y in (batch.targets, batch.targets[drawn.partners]))
    first, second = shares(float(drawn.lam[0]))
    return abs(float(ours - (first * a + second * b)))


def test_soft_targets_give_the_authors_two_cross_entropies():
    assert loss_gap(lambda lam: (lam, 1 - lam)) < 1e-12


def test_negative_control_swapped_cross_entropies_are_another_loss():
    assert loss_gap(lambda lam: (1 - lam, lam)) > 1e-3


def p_value_of_shares(alpha: float, told: float) -> float:
    """That the shares of 600 steps with `alpha` are Beta(told, told)."""
    shares = [float(Mixup(alpha=alpha).draw(replace(AT, step=step), 2).lam[0]) for step in range(600)]
    return stats.kstest(shares, stats.beta(told, told).cdf).pvalue


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_is_beta_distributed(alpha):
    assert p_value_of_shares(alpha, alpha) > 0.01


def test_negative_control_a_share_of_another_beta_is_noticed():
    assert p_value_of_shares(0.2, 1.0) < 1e-6
    assert p_value_of_shares(1.0, 4.0) < 1e-6


def test_every_permutation_is_as_likely():
    drawn = [tuple(Mixup().draw(replace(AT, step=step), 3).partners.tolist()) for step in range(600)]
    counts = [drawn.count(p) for p in set(drawn)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


def test_default_is_the_authors_alpha_of_1():
    assert Mixup().alpha == 1.0
    assert p_value_of_shares(Mixup().alpha, 1.0) > 0.01


def test_targets_sum_to_1_and_are_never_negative():
    for step in range(20):
        targets = Mixup()(whole(), replace(AT, step=step)).targets
        assert targets.dtype == torch.float32
        assert torch.allclose(targets.sum(1), torch.ones(N), atol=1e-6)
        assert (targets >= 0).all()


def test_inputs_and_targets_are_not_changed_in_place():
    batch = whole()
    before = batch.inputs.clone(), batch.targets.clone()
    Mixup()(batch, AT)
    assert torch.equal(batch.inputs, before[0])
    assert torch.equal(batch.targets, before[1])


def test_a_step_is_a_function_of_seed_and_step_alone():
    first = Mixup()(whole(), AT)
    torch.manual_seed(99)
    again = Mixup()(whole(), AT)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    for other in (replace(AT, step=4), replace(AT, seed=8)):
        assert not torch.equal(first.inputs, Mixup()(whole(), other).inputs)


STACKS = {
    "mixup": (Mixup(),),
    "mixup then cutmix": (Mixup(), CutMix()),
    "cutmix then mixup": (CutMix(), Mixup()),
    "mixup twice": (Mixup(), Mixup(alpha=0.3)),
}


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("stack", STACKS)
def test_a_batch_in_parts_is_the_whole_batch(stack, parts):
    assert same_in_parts(whole(), parts, AT, *STACKS[stack])


_peers = Batch.peers


@pytest.mark.parametrize("parts", [2, 3])
def test_negative_control_partners_from_the_own_part_only_are_another_batch(parts, monkeypatch):
    monkeypatch.setattr(Batch, "peers", lambda self, places: _peers(replace(self, fetch=None), places % len(self)))
    assert not same_in_parts(whole(), parts, AT, Mixup())


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("stack", ["mixup then cutmix", "cutmix then mixup", "mixup twice"])
def test_negative_control_partners_that_missed_the_first_transform_are_another_batch(stack, parts, monkeypatch):
    monkeypatch.setattr(Batch, "apply", lambda self, change: change(self))
    assert not same_in_parts(whole(), parts, AT, *STACKS[stack])


def test_soft_targets_of_an_earlier_transform_are_mixed_again():
    first = Mixup(alpha=0.3)(whole(), AT)
    drawn = Mixup().draw(AT, N)
    lam = float(drawn.lam[0])
    wanted = lam * first.targets + (1 - lam) * first.targets[drawn.partners]
    assert torch.allclose(Mixup()(first, AT).targets, wanted)


def test_alpha_0_is_the_baseline_itself():
    batch = whole()
    assert Mixup(alpha=0.0)(batch, AT) is batch


def test_the_function_mixes_as_the_transform_does():
    batch, stream_of_step = whole(), stream(AT.seed, "mixup", AT.step)
    inputs, targets = mixup(batch.inputs, batch.targets, CLASSES, generator=stream_of_step)
    out = Mixup()(batch, AT)
    assert torch.equal(inputs, out.inputs)
    assert torch.equal(targets, out.targets)


def test_the_function_leaves_pixels_alone_for_alpha_0():
    batch = whole()
    inputs, targets = mixup(batch.inputs, batch.targets, CLASSES, alpha=0.0)
    assert torch.equal(inputs, batch.inputs)
    assert torch.equal(targets, F.one_hot(batch.targets, CLASSES).float())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inputs": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)}, "floating-point"),
        ({"alpha": -1.0}, "alpha >= 0"),
        ({"num_classes": None}, "num_classes"),
    ],
)
def test_the_function_refuses_what_it_cannot_mix(arguments, said):
    good = {"inputs": torch.zeros(4, 3, 8, 8), "targets": torch.zeros(4, dtype=torch.int64), "num_classes": 3}
    with pytest.raises(ValueError, match=said):
        mixup(**{**good, **arguments})


def test_the_memory_format_and_dtype_stay():
    batch = whole()
    for dtype in (torch.float32, torch.float64):
        inputs = batch.inputs.to(dtype, memory_format=torch.channels_last)
        out = Mixup()(replace(batch, inputs=inputs), AT)
        assert out.inputs.dtype == out.targets.dtype == dtype
        assert out.inputs.is_contiguous(memory_format=torch.channels_last)

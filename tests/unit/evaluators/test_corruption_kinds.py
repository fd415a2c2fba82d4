"""Each corruption against a plain account of it (helpers/plain_corruptions.py), at 32, 64 and 224 pixels."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import plain_corruptions
from paribus.evaluators.corruption_kinds import blur, corrupt, draws, parameters
from paribus.evaluators.corruption_kinds.corrupt import FURTHER_KINDS, PAPER_KINDS, change
from paribus.evaluators.corruption_kinds.draws import Draws
from paribus.evaluators.corruption_kinds.eight_bits import quantise
from paribus.evaluators.corruption_kinds.parameters import PARAMETERS, SIZES, choose_parameters

KINDS = PAPER_KINDS + FURTHER_KINDS
SEED = 5
# severities that the published parameters do not put in order: another deformation, more mixing at less blur, less
# colour before more
UNORDERED = {"elastic_transform", "glass_blur", "saturate"}


def pictures(n: int, side: int, channels: int = 3) -> Tensor:
    """(n, c, side, side) uint8 with large and small shapes, some grey pixels, black and white."""
    y, x = (torch.linspace(0, 1, side, dtype=torch.float64)[i] for i in ((..., None), (None, ...)))
    waves = [
        torch.sin(6 * y * (k % 3 + 1) + c) * torch.cos(9 * x + k) + 0.5 * torch.sin(70 * x * y + 2 * c)
        for k in range(n)
        for c in range(channels)
    ]
    images = (torch.stack(waves).view(n, channels, side, side) * 100 + 128).clamp(0, 255)
    images[:, :, : side // 8] = images[:, :1, : side // 8]
    images[:, :, :2, :2], images[:, :, -1, -3:] = 0, 255
    return images.to(torch.uint8)


def by_plain_account(kind: str, severity: int, pixels: Tensor, ids: Tensor, size: int, **other: Any) -> Tensor:
    """size: for which the parameters are. other: the parameters that are otherwise."""
    found = []
    for image, of in zip(pixels, ids.split(1), strict=True):
        own = Draws(SEED, kind, severity, of)
        account = getattr(plain_corruptions, kind)
        chosen = PARAMETERS[kind][SIZES.index(size)][severity - 1]
        names = list(inspect.signature(account).parameters)[2:]
        settings = {**dict(zip(names, chosen, strict=True)), **other}
        changed = account(
            image.permute(1, 2, 0).numpy() / 255,
            lambda name, *shape, own=own: own.uniform(name, *shape)[0].numpy(),
            **settings,
        )
        found.append(torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1))
    return torch.stack(found)


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_as_the_plain_account_has_it(kind: str, severity: int) -> None:
    for side, channels in ((32, 3), (32, 1), (64, 3)):
        pixels, ids = pictures(2, side, channels), torch.tensor([41, 7])
        ours = change(kind, severity, pixels.double() / 255, ids, SEED)
        plain = by_plain_account(kind, severity, pixels, ids, side)
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)
        assert torch.equal(quantise(ours), quantise(plain))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "glass_blur"])
def test_at_224_pixels(kind: str) -> None:
    pixels, ids = pictures(1, 224), torch.tensor([3])
    for severity in (5,) if kind in ("brightness", "saturate", "shot_noise", "fog") else (1, 5):  # slow, pixel by pixel
        ours = change(kind, severity, pixels.double() / 255, ids, SEED)
        torch.testing.assert_close(ours, by_plain_account(kind, severity, pixels, ids, 224), rtol=0, atol=1e-6)


def test_glass_with_the_parameters_of_224_pixels_on_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain account takes seconds for 224 pixels."""
    monkeypatch.setattr(corrupt, "choose_parameters", lambda kind, severity, side: PARAMETERS[kind][2][severity - 1])
    pixels, ids = pictures(2, 40), torch.tensor([3, 4])
    for severity in range(1, 6):
        ours = change("glass_blur", severity, pixels.double() / 255, ids, SEED)
        plain = by_plain_account("glass_blur", severity, pixels, ids, 224)
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


WRONG = {
    "gaussian_noise": {"deviation": 0.041},
    "shot_noise": {"photons": 490},
    "impulse_noise": {"share": 0.05},
    "defocus_blur": {"edge": 0.41},
    "glass_blur": {"passes": 2},
    "motion_blur": {"sigma": 1.1},
    "zoom_blur": {"count": 6},
    "snow": {"threshold": 0.55},
    "fog": {"decay": 2.9},
    "brightness": {"more": 0.051},
    "contrast": {"factor": 0.74},
    "elastic_transform": {"jitter": 0.079},
    "pixelate": {"share": 0.9},
    "jpeg_compression": {"quality": 78},
    "speckle_noise": {"deviation": 0.061},
    "gaussian_blur": {"sigma": 0.41},
    "saturate": {"factor": 0.31},
}


@pytest.mark.parametrize("kind", KINDS)
def test_negative_control_another_parameter_is_seen(kind: str) -> None:
    pixels, ids = pictures(2, 32), torch.tensor([41, 7])
    ours = change(kind, 1, pixels.double() / 255, ids, SEED)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours, by_plain_account(kind, 1, pixels, ids, 32, **WRONG[kind]), rtol=0, atol=1e-6)
    severer = change(kind, 2, pixels.double() / 255, ids, SEED)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(severer, by_plain_account(kind, 1, pixels, ids, 32), rtol=0, atol=1e-6)


def test_negative_control_another_sample_or_seed_is_seen() -> None:
    pixels = pictures(2, 32)
    for kind in ("gaussian_noise", "glass_blur", "fog", "elastic_transform", "motion_blur"):
        ours = corrupt.corrupt(kind, 3, pixels, torch.tensor([1, 2]), SEED)
        assert not torch.equal(ours, corrupt.corrupt(kind, 3, pixels, torch.tensor([1, 3]), SEED))
        assert not torch.equal(ours, corrupt.corrupt(kind, 3, pixels, torch.tensor([1, 2]), SEED + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_in_any_batch_and_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 13
    pixels, ids = pictures(n, 32), torch.arange(n) * 3
    order = torch.tensor([5, 0, 12, 7, 1, 9, 3, 11, 2, 10, 4, 8, 6])
    whole = corrupt.corrupt(kind, 4, pixels, ids, SEED)
    assert whole.dtype == torch.uint8
    for size in (1, 5, 8):
        parts = [corrupt.corrupt(kind, 4, p, i, SEED) for p, i in zip(pixels.split(size), ids.split(size), strict=True)]
        assert torch.equal(torch.cat(parts), whole), size
    assert torch.equal(corrupt.corrupt(kind, 4, pixels[order], ids[order], SEED), whole[order])
    monkeypatch.setattr(corrupt, "_VALUES", 2 * 3 * 32 * 32)  # how many at once
    assert torch.equal(corrupt.corrupt(kind, 4, pixels, ids, SEED), whole)
    assert corrupt.corrupt(kind, 4, pixels[:0], ids[:0], SEED).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("side", [32, 64, 224])
def test_the_severer_the_farther_from_the_image(side: int) -> None:
    n = {32: 48, 64: 24, 224: 2}[side]
    noise = torch.rand(n, 3, side + 4, side + 4, generator=torch.Generator().manual_seed(0))
    pixels, ids = (torch.nn.functional.avg_pool2d(noise, 5, 1) * 255).to(torch.uint8), torch.arange(n)
    kinds = [kind for kind in KINDS if kind not in UNORDERED]
    for kind in kinds if side < 224 else ["gaussian_noise", "impulse_noise", "pixelate", "brightness", "contrast"]:
        changes = [
            (corrupt.corrupt(kind, severity, pixels, ids, SEED).float() - pixels).abs().mean().item()
            for severity in range(1, 6)
        ]
        assert changes == sorted(changes), kind
        assert changes[0] > 0.1, kind


def test_images_that_are_not_square_and_small_ones() -> None:
    for height, width in ((8, 8), (20, 33)):
        pixels = pictures(2, 64)[:, :, :height, :width]
        for kind in KINDS:
            assert corrupt.corrupt(kind, 5, pixels, torch.arange(2), SEED).shape == pixels.shape, kind


def test_black_and_white_images_stay_numbers() -> None:
    for value in (0, 255):
        pixels = torch.full((1, 3, 16, 16), value, dtype=torch.uint8)
        for kind in KINDS:
            changed = change(kind, 5, pixels.double() / 255, torch.tensor([1]), SEED)
            assert changed.isfinite().all(), kind
        for kind in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform"):
            assert torch.equal(corrupt.corrupt(kind, 5, pixels, torch.tensor([1]), SEED), pixels), kind


def test_the_list_of_the_nearest_size_is_taken() -> None:
    sizes = {side: SIZES[[t[0] for t in PARAMETERS["shot_noise"]].index(choose_parameters("shot_noise", 1, side))]
             for side in (8, 32, 45, 46, 64, 119, 120, 224, 600)}  # fmt: skip
    assert sizes == {8: 32, 32: 32, 45: 32, 46: 64, 64: 64, 119: 64, 120: 224, 224: 224, 600: 224}
    assert set(PARAMETERS) == set(KINDS)
    assert all(len(lists) == 3 and all(len(five) == 5 for five in lists) for lists in PARAMETERS.values())


def test_draws_have_the_distributions_of_their_names() -> None:
    own = Draws(1, "any", 1, torch.arange(2000))
    normal = own.normal("a", 50)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    levels = torch.full((2000, 1, 5, 10), 51)
    counts = own.poisson("b", levels, 60.0)
    assert abs(counts.mean() - 12) < 0.1
    assert abs(counts.var() - 12) < 0.3
    assert own.poisson("b", levels * 0, 60.0).sum() == 0


def test_negative_control_a_table_of_another_mean_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = draws._poisson_table
    monkeypatch.setattr(draws, "_poisson_table", lambda photons: true(photons * 1.02))
    with pytest.raises(AssertionError):
        test_as_the_plain_account_has_it("shot_noise", 3)


def test_negative_control_chains_of_copies_that_end_too_soon_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a farthest shift of 2 pixels a pixel may copy from one behind it, that from another, and so on."""
    monkeypatch.setattr(corrupt, "choose_parameters", lambda *of: (0.05, 2, 1))
    pixels, ids = pictures(1, 32), torch.tensor([3])
    other = {"sigma": 0.05, "farthest": 2, "passes": 1}
    plain = by_plain_account("glass_blur", 1, pixels, ids, 32, **other)
    assert torch.equal(quantise(change("glass_blur", 1, pixels.double() / 255, ids, SEED)), quantise(plain))

    def once(shifts: Tensor, margin: int) -> Tensor:
        height, width = shifts.shape[2:]
        here = torch.arange(height * width).view(height, width)
        moves = torch.zeros(height, width, dtype=torch.bool)
        moves[margin + 1 : height - margin + 1, margin + 1 : width - margin + 1] = True
        return torch.where(moves, here + shifts[:, 0] * width + shifts[:, 1], here).flatten(1)

    monkeypatch.setattr(blur, "_copied_from", once)
    assert not torch.equal(quantise(change("glass_blur", 1, pixels.double() / 255, ids, SEED)), quantise(plain))


def test_parameters_are_of_use_in_their_order() -> None:
    """The names of the parameters, which the table has by place alone."""
    for kind in KINDS:
        names = list(inspect.signature(getattr(plain_corruptions, kind)).parameters)[2:]
        assert all(len(row) == len(names) for lists in parameters.PARAMETERS[kind] for row in lists), kind

"""The cosine by epochs against timm's scheduler, stepped as timm's and DeiT's scripts step it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from paribus.core.progress import Progress
from paribus.methods.schedules import Cosine, CosineByEpoch

LR, PER_EPOCH = 1e-3, 4
# DeiT's recipe as factors of its 1e-3: warm-up from 1e-6, down to 1e-5
SETTINGS = {"warmup": "5ep", "warmup_start": 1e-3, "floor": 1e-2}


def timms(epochs: int, after: Callable[[int], int]) -> list[float]:
    """The rate of every epoch; after: what an epoch's number becomes in the script's call after that epoch."""
    from timm.scheduler.cosine_lr import CosineLRScheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = CosineLRScheduler(optimizer, epochs, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    rates = []
    for epoch in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(after(epoch))
    return rates


def rates(schedule: Callable[[Progress], float], epochs: int) -> list[float]:
    """The rate of every step."""
    total = epochs * PER_EPOCH
    return [LR * schedule(Progress(step, total, 0, PER_EPOCH)) for step in range(total)]


@pytest.mark.parametrize("epochs", [30, 300])
@pytest.mark.parametrize(("late", "after"), [(False, lambda epoch: epoch + 1), (True, lambda epoch: epoch)])
def test_every_step_has_the_rate_of_timms_epoch(epochs: int, late: bool, after: Callable[[int], int]) -> None:
    ours = rates(CosineByEpoch(late=late, **SETTINGS), epochs)  # type: ignore[arg-type]
    for epoch, rate in enumerate(timms(epochs, after)):
        assert ours[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH] == pytest.approx([rate] * PER_EPOCH, rel=1e-9)


@pytest.mark.parametrize(
    "broken",
    [
        Cosine(**SETTINGS),  # type: ignore[arg-type]  # by steps, after the warm-up
        CosineByEpoch(late=True, **SETTINGS),  # type: ignore[arg-type]
        CosineByEpoch(**{**SETTINGS, "warmup": "10ep"}),  # type: ignore[arg-type]
        CosineByEpoch(**{**SETTINGS, "floor": 0.0}),  # type: ignore[arg-type]
    ],
)
def test_negative_control_another_schedule_is_noticed(broken: Callable[[Progress], float]) -> None:
    ours = rates(broken, 30)[::PER_EPOCH]
    assert ours != pytest.approx(timms(30, lambda epoch: epoch + 1), rel=1e-9)


def test_a_length_in_steps_is_one_long_epoch_at_a_time() -> None:
    schedule = CosineByEpoch(warmup="8ba", floor=0.0)
    factors = [schedule(Progress(step, 18, 0, 4)) for step in range(18)]
    assert factors[:8] == [0.0] * 4 + [0.5] * 4
    assert len(set(factors[8:])) == 3
    assert all(0 < factor < 1 for factor in factors[8:])

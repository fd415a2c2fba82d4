"""Windows of a log: averages, and losses that are not finite."""

import pytest
import torch

from paribus.core.errors import RunFailed
from paribus.engine.distributed import World
from paribus.engine.window import MetricAccumulator

CPU = torch.device("cpu")


def test_a_loss_that_is_not_finite_is_caught_wherever_it_hides_in_a_window() -> None:
    window = MetricAccumulator(World(), CPU)
    for loss in (1.0, float("inf"), 1.0):
        window.add({"train/loss": torch.tensor(loss), "lr": 0.1}, samples=4)
    with pytest.raises(RunFailed, match="not finite between steps 1 and 3"):
        window.flush(3)


def test_a_window_averages_and_survives_a_checkpoint() -> None:
    whole, parts = MetricAccumulator(World(), CPU), MetricAccumulator(World(), CPU)
    for k in range(5):
        for window in (whole, parts):
            window.add({"train/loss": torch.tensor(k / 3), "lr": k}, samples=4)
        if k == 2:
            saved = parts.state_dict()
            assert saved["sums"]["train/loss"].shape == (1,)  # one row a rank
            parts = MetricAccumulator(World(), CPU)
            parts.load_state_dict(saved)
    a, b = whole.flush(5), parts.flush(5)
    assert a["train/loss"] == b["train/loss"] == pytest.approx(2 / 3)
    assert a["lr"] == b["lr"] == 4

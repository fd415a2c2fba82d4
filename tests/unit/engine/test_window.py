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


class _Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _log_windows(seconds: list[float], world: World | None = None) -> list[dict[str, float]]:
    """What each window of 100 samples reports that takes so long."""
    clock = _Clock()
    window, reported = MetricAccumulator(world or World(), CPU, clock), list[dict[str, float]]()
    for step, s in enumerate(seconds, 1):
        window.add({"train/loss": torch.tensor(1.0)}, samples=100)
        clock.now += s
        reported.append(window.flush(step))
    return reported


def test_a_run_that_becomes_much_slower_than_it_was_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    reported = _log_windows([9, 1, 1, 1, 1, 1, 5, 5, 50])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: training has slowed down to 20 samples/s, from 100 before; ")
    assert "runtime.threads=1" in line
    assert [r["throughput/samples_per_sec"] for r in reported[-3:]] == [20, 20, 2], "what is recorded stays as it was"


@pytest.mark.parametrize(
    "seconds",
    [
        [1, 1, 1, 1, 5],  # too few to compare with
        [1, 1, 1, 1, 1, 3.9, 3],  # slower, but no collapse
        [0.1, 0.1, 0.1, 0.1, 0.1, 1.9],  # a hiccup
        [5, 5, 5, 5, 5, 5, 1],
    ],
)
def test_ordinary_changes_of_speed_are_not_worth_a_line(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    _log_windows(seconds)
    assert capsys.readouterr().err == ""


def test_evaluation_and_checkpoints_are_not_taken_for_slow_training(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    window = MetricAccumulator(World(), CPU, clock)
    for step in range(1, 20):
        window.add({"train/loss": torch.tensor(1.0)}, samples=100)
        clock.now += 1
        window.check(step)
        clock.now += 60
        window.end_evaluation()
        clock.now += 60
        window.restart_clock()
        window.flush(step)
    assert capsys.readouterr().err == ""


def test_of_several_processes_one_speaks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paribus.engine.window.all_sum", lambda sums: sums)
    _log_windows([1, 1, 1, 1, 1, 5], World(1, 2, 1, 2))
    assert capsys.readouterr().err == ""

"""What is seen while a run trains: golden lines, an honest estimate, a bar that leaves a clean screen."""

from pathlib import Path

import pytest

from helpers.screens import Tty
from paribus.core.terminal import find_console
from paribus.tracking.console import ConsoleTracker, RunProgress, build_bar, format_details

TRAINED = {"train/loss": 0.53214, "lr": 2.5e-3, "throughput/samples_per_sec": 12345.6, "time/train_s": 9.0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    console = ConsoleTracker(0, 600, now=clock)
    for step, seconds, values in (
        (50, 40.0, TRAINED),  # the first steps take long
        (100, 5.0, TRAINED),
        (115, 4.0, {"val/acc1": 0.975, "val/acc5": 1.0, "time/eval_s": 2.5}),
        (150, 3.5, TRAINED),
        (600, 45.0, {**TRAINED, "val/acc1": 1.0, "minival/acc1": 0.5}),
    ):
        clock.now += seconds
        console.log(step, values)
    console.close({})
    assert capsys.readouterr().out.splitlines() == [
        "step  50/600  loss 0.5321   12,346 images/s  lr 2.50e-03  ETA 7:20+",
        "step 100/600  loss 0.5321   12,346 images/s  lr 2.50e-03  ETA 0:50+",
        "step 115/600  ETA 1:07  val acc1 97.50%",
        "step 150/600  loss 0.5321   12,346 images/s  lr 2.50e-03  ETA 0:56  (val acc1 97.50% at 115)",
        "step 600/600  loss 0.5321   12,346 images/s  lr 2.50e-03  val acc1 100.00%  minival acc1 50.00%",
    ]


def test_the_estimate_counts_evaluations_and_leaves_out_the_warm_up() -> None:
    """0.1 s a step, an evaluation of 5 s every 20 steps, and a minute of compilation before the first step."""
    now, clock = 0.0, 60.0
    standing = RunProgress.at_start(0, 1000, now)
    for step in range(1, 1001):
        clock += 0.1
        values = dict(TRAINED) if step % 10 == 0 else {}
        if step % 20 == 0:
            clock += 5.0
            values["val/acc1"] = 0.5
        if values:
            standing = standing.with_entry(step, values, clock)
        if step in (200, 500, 900):
            left = (1000 - step) * 0.1 + (1000 - step) // 20 * 5.0
            minutes, seconds = standing.format_eta(clock).split(":")
            assert int(minutes) * 60 + int(seconds) == pytest.approx(left, rel=0.06)
    assert standing.format_eta(clock) == "0:00"


def test_the_estimate_of_a_resumed_run_counts_only_its_own_steps() -> None:
    standing = RunProgress.at_start(500, 1000, 0.0).with_entry(600, TRAINED, 20.0).with_entry(700, TRAINED, 30.0)
    assert standing.format_eta(30.0) == "0:30+"
    assert standing.format_eta(40.0) == "0:20+"  # time passes between log points
    assert standing.format_eta(99.0) == "0:00+"
    assert RunProgress.at_start(500, 1000, 0.0).format_eta(5.0) == "?"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_what_does_not_fit_under_the_bar_is_left_out_whole(width: int) -> None:
    values = {**TRAINED, "val/acc1": 0.975, "minival/acc1": 0.96}
    shown = format_details(RunProgress.at_start(0, 600, 0.0).with_entry(50, values, 1.0), width)
    full = "loss 0.5321  val acc1 97.50%  minival acc1 96.00%  12,346 images/s  lr 2.50e-03"
    assert len(shown) <= width
    assert full.startswith(shown)
    assert shown == full or len(shown) + 2 + len(full[len(shown) + 2 :].split("  ")[0]) > width


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_the_bar_is_two_lines_at_any_width(width: int) -> None:
    from rich.console import Console as Terminal

    standing = RunProgress.at_start(100, 60000, 0.0).with_entry(300, {**TRAINED, "val/acc1": 0.975}, 10.0)
    page = Terminal(width=width, force_terminal=True, color_system=None)
    with page.capture() as captured:
        page.print(build_bar(standing, width, 12.0))
    first, second, rest = captured.get().split("\n")[:3]
    assert len(first) <= width
    assert first.endswith("300/60000  0:12  ETA 49:43")
    assert second.startswith("loss 0.5321")
    assert rest.strip() == ""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"CI": "false"}, True),
        ({"NO_COLOR": "1"}, True),
        ({"CI": "true"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_where_a_bar_makes_sense(environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (find_console(Tty()) is not None) is expected


def test_force_color_does_not_make_a_file_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    with open(tmp_path / "log", "w") as file:
        assert find_console(file) is None

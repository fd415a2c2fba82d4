"""What is seen while a run trains: golden lines, an honest estimate, a bar that leaves a clean screen."""

import contextlib
import io
import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from helpers.terminals import on_terminal, screen
from paribus.core.terminal import terminal
from paribus.tracking.console import Console, Standing, bar, details

TRAINED = {"train/loss": 0.53214, "lr": 2.5e-3, "throughput/samples_per_sec": 12345.6, "time/train_s": 9.0}


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    console = Console(0, 600, now=clock)
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
    standing = Standing.at(0, 1000, now)
    for step in range(1, 1001):
        clock += 0.1
        values = dict(TRAINED) if step % 10 == 0 else {}
        if step % 20 == 0:
            clock += 5.0
            values["val/acc1"] = 0.5
        if values:
            standing = standing.after(step, values, clock)
        if step in (200, 500, 900):
            left = (1000 - step) * 0.1 + (1000 - step) // 20 * 5.0
            minutes, seconds = standing.eta(clock).split(":")
            assert int(minutes) * 60 + int(seconds) == pytest.approx(left, rel=0.06)
    assert standing.eta(clock) == "0:00"


def test_the_estimate_of_a_resumed_run_counts_only_its_own_steps() -> None:
    standing = Standing.at(500, 1000, 0.0).after(600, TRAINED, 20.0).after(700, TRAINED, 30.0)
    assert standing.eta(30.0) == "0:30+"
    assert standing.eta(40.0) == "0:20+"  # time passes between log points
    assert standing.eta(99.0) == "0:00+"
    assert Standing.at(500, 1000, 0.0).eta(5.0) == "?"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_what_does_not_fit_under_the_bar_is_left_out_whole(width: int) -> None:
    values = {**TRAINED, "val/acc1": 0.975, "minival/acc1": 0.96}
    shown = details(Standing.at(0, 600, 0.0).after(50, values, 1.0), width)
    full = "loss 0.5321  val acc1 97.50%  minival acc1 96.00%  12,346 images/s  lr 2.50e-03"
    assert len(shown) <= width
    assert full.startswith(shown)
    assert shown == full or len(shown) + 2 + len(full[len(shown) + 2 :].split("  ")[0]) > width


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_the_bar_is_two_lines_at_any_width(width: int) -> None:
    from rich.console import Console as Terminal

    standing = Standing.at(100, 60000, 0.0).after(300, {**TRAINED, "val/acc1": 0.975}, 10.0)
    page = Terminal(width=width, force_terminal=True, color_system=None)
    with page.capture() as captured:
        page.print(bar(standing, width, 12.0))
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
    assert (terminal(Tty()) is not None) is expected


def test_force_color_does_not_make_a_file_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    with open(tmp_path / "log", "w") as file:
        assert terminal(file) is None


SCENE = """
import os, sys, time
from paribus.tracking.console import Console
console = Console(40, 100)
console.log(50, {"train/loss": 1.5, "throughput/samples_per_sec": 100.0, "val/acc1": 0.25})
console._live.refresh()
print("a word on standard output")
print("warning: a word on standard error", file=sys.stderr)
console.log(60, {"train/loss": 1.25})
console._live.refresh()
"""


def test_words_come_above_the_bar_and_the_bar_goes_at_the_end(tmp_path: Path) -> None:
    shown = on_terminal([sys.executable, "-c", SCENE + "console.close({})\nprint('the end')"], tmp_path)
    assert shown.code == 0
    assert "loss 1.2500  val acc1 25.00%  100 images/s" in shown.raw
    assert shown.screen == ["a word on standard output", "warning: a word on standard error", "the end", ""]
    assert shown.raw.endswith("the end\r\n")  # nothing is sent after it
    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")


def interrupted(at: int, opening: bool, monkeypatch: pytest.MonkeyPatch) -> list[str] | None:
    """The screen after a signal at the `at`-th line of rich's that runs while a bar opens, or closes; None if there are
    not that many. The handler writes a word, as that of Ctrl-C does."""
    tty, lines = Tty(), 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        if "/rich/" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        if event == "line" and lines == at:
            os.kill(os.getpid(), signal.SIGINT)
        return trace

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", tty)
        patched.setattr(sys, "stderr", tty)
        before = signal.signal(signal.SIGINT, lambda number, frame: sys.stderr.write("a word\n"))
        sys.settrace(trace if opening else None)
        try:
            console = Console(40, 100)
            sys.settrace(None if opening else trace)
            console.close({})
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGINT, before)
    return screen(tty.getvalue().replace("\n", "\r\n"), 80) if lines >= at else None


def spoilt(opening: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many moments were tried (some forty lines apart), and how many of them left part of a bar."""
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    shown = itertools.takewhile(
        lambda lines: lines is not None, (interrupted(at, opening, monkeypatch) for at in itertools.count(1, 41))
    )
    told = [lines == ["a word", ""] for lines in shown]
    return len(told), told.count(False)


@pytest.mark.parametrize("opening", [True, False])
def test_ctrl_c_while_the_bar_opens_or_closes_leaves_no_part_of_it(
    opening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, bad = spoilt(opening, monkeypatch)
    assert tried > 50
    assert bad == 0


@pytest.mark.parametrize("opening", [True, False])
def test_twin_where_signals_do_not_wait_parts_of_the_bar_stay(opening: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paribus.tracking.console.undisturbed", contextlib.nullcontext)
    assert spoilt(opening, monkeypatch)[1] > 0


@pytest.mark.parametrize("end", ["os._exit(130)", "os.kill(os.getpid(), 9)"])
def test_a_process_that_dies_leaves_the_cursor_visible_on_a_line_of_its_own(end: str, tmp_path: Path) -> None:
    shown = on_terminal([sys.executable, "-c", f"{SCENE}\n{end}"], tmp_path)
    assert shown.screen[-3].split()[1:] == ["60/100", "0:00", "ETA", "0:00"]
    assert shown.screen[-1] == ""
    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")


def test_errors_that_go_to_a_file_stay_in_the_file(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{SCENE}' 2>errors"
    shown = on_terminal(["bash", "-c", command], tmp_path)
    assert (tmp_path / "errors").read_text() == "warning: a word on standard error\n"
    assert "standard error" not in shown.raw


def test_without_colours_and_without_unicode(tmp_path: Path) -> None:
    end = "console.close({})"
    plain = on_terminal([sys.executable, "-c", SCENE + end], tmp_path, NO_COLOR="1")
    assert "━" in plain.raw
    assert "\x1b[3" not in plain.raw
    ascii_only = on_terminal([sys.executable, "-c", SCENE + end], tmp_path, PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert ascii_only.code == 0
    assert "---" in ascii_only.raw

"""The bar on a real terminal: words above it, Ctrl-C at any moment, processes that die, and no part of it left over."""

import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from helpers.screens import Tty, screen
from helpers.terminals import on_terminal
from paribus.tracking.console import ConsoleTracker

SCENE = """
import os, sys, time
from paribus.tracking.console import ConsoleTracker
console = ConsoleTracker(40, 100)
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
            console = ConsoleTracker(40, 100)
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
def test_negative_control_where_signals_do_not_wait_parts_of_the_bar_stay(
    opening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paribus.tracking.console.delay_signals", contextlib.nullcontext)
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

"""Progress of long steps, without waiting for a clock: the timer fires at once, or never."""

import io
from collections.abc import Callable

import pytest

from paribus.core import long_step as module
from paribus.core.long_step import StepDisplay, long_step


class Now:
    """A timer that is over as soon as it starts."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._call, self.daemon = call, False

    def start(self) -> None:
        self._call()

    def cancel(self) -> None:
        pass


class Never(Now):
    def start(self) -> None:
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """For standard error; not a fixture, because pytest sets the stream again after its fixtures."""
    made = Terminal()
    monkeypatch.setattr("sys.stderr", made)
    for name in ("CI", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_a_log_gets_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module.threading, "Timer", Now)
    with long_step("packing", 9469, "images") as advance:
        advance(512)
    assert capsys.readouterr() == ("", "packing: 0 of 9,469 images ...\n")
    with long_step("checksum of a.pt"):
        pass
    assert capsys.readouterr() == ("", "checksum of a.pt ...\n")


def test_a_step_that_is_over_soon_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.threading, "Timer", Never)
    with long_step("packing", 3, "images") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_timer_that_comes_too_late_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    display = StepDisplay("packing", 3, "images")
    display.end()
    display.show()
    assert capsys.readouterr() == ("", "")


def test_a_line_says_how_far_it_has_come(capsys: pytest.CaptureFixture[str]) -> None:
    display = StepDisplay("packing", 9469, "images")
    display.advance(512)
    display.show()
    assert capsys.readouterr().err == "packing: 512 of 9,469 images ...\n"


@pytest.mark.parametrize("total", [0, 100])
def test_a_terminal_gets_a_bar_that_vanishes(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(module.threading, "Timer", Now)
    with long_step("packing", total, "images") as advance:
        advance(40)
    shown = terminal.getvalue()
    assert "packing" in shown
    assert ("40/100" in shown or "0/100" in shown) is bool(total)
    assert shown.rindex("\x1b[2K") > shown.rindex("packing"), "the line is erased"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"


def test_a_second_bar_on_the_same_terminal_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(module.threading, "Timer", Now)
    with long_step("packing"), long_step("listing") as advance:
        advance(1)
    assert "packing" in terminal.getvalue()


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID"])
def test_other_processes_of_a_run_are_silent(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module.threading, "Timer", Now)
    monkeypatch.setenv(name, "1")
    with long_step("packing") as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_an_error_in_the_step_passes_and_the_bar_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setattr(module.threading, "Timer", Now)
    with pytest.raises(ZeroDivisionError), long_step("packing"):
        raise ZeroDivisionError
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")

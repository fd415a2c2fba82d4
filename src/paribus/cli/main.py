"""The command line: finds the command and turns what went wrong into one line and an exit code.

Imports nothing heavy, so that `paribus --help` answers at once.
"""

import errno
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TextIO, cast

from paribus import __version__
from paribus.cli import tree
from paribus.cli.first_line import format_first_line
from paribus.cli.options import exit_codes
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import BAD_CONFIG, FAILED, INTERRUPTED, MISMATCH, OK, REQUEUE, STUDY_FAILED
from paribus.core.terminal import TolerantStdout


def main() -> NoReturn:
    signal.signal(signal.SIGINT, _leave)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 — as long as the process
        getattr(sys, name).reconfigure(errors="replace")  # a locale without × should not make a command fail
    out = TolerantStdout(sys.stdout)
    sys.stdout = cast(TextIO, out)
    code = dispatch(sys.argv[1:])
    out.flush()
    # `paribus list runs | head`: a closed pipe is not an error
    if out.failure is not None and out.failure.errno != errno.EPIPE:
        training = sys.argv[1:2] == ["train"]  # its result is in the run folder
        code = complain(
            f"standard output cannot be written: {out.failure.strerror}", code if training else code or FAILED
        )
    if "torch.distributed" in sys.modules and "MASTER_ADDR" in os.environ:
        # torch aborts about one rank in dozens at interpreter shutdown; by now all is written, the group left
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C before training handles it. As an exception it would be turned into others by what torch imports."""
    os.write(2, b"paribus: interrupted\n")
    os._exit(INTERRUPTED)


def dispatch(words: list[str]) -> int:
    """Run a command line and return its exit code."""
    if not words or words[0] in (*tree.HELP, "help"):
        print(_help())
        return OK
    if words[0] in ("-V", "--version"):
        print(f"paribus {__version__}")
        return OK
    try:
        found, rest = tree.find(words)
        command = found[-1]
        if command.commands:  # no sub-command is given
            tree.parser_of(found).print_help()
            return OK
        if "RANK" in os.environ:
            from paribus.engine.world import end_with_launcher

            end_with_launcher()
        if command.name == "train":
            _leave_while_starting()
            if (first := format_first_line(rest)) is not None:
                print(first, flush=True)
        args = rest if command.raw else tree.read(found, rest)
        with _importable_here():
            return OK if args is None else tree.load(command)(args)
    except ConfigError as error:
        return complain(str(error), BAD_CONFIG)
    except RunFailed as error:
        return complain(str(error), FAILED)


@contextmanager
def _importable_here() -> Iterator[None]:
    """Meanwhile packages of the current folder can be imported, as with `python -m`, but after all that is installed:
    a folder's own queue.py or data/ should break neither Python nor torch."""
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    if not here or here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(here)


def _help() -> str:
    codes = {
        OK: "done, or already done",
        FAILED: "failed",
        BAD_CONFIG: "the input is wrong",
        STUDY_FAILED: "a study ended with failures",
        MISMATCH: "a replay differs",
        REQUEUE: "stopped with a checkpoint, run again to resume",
    }
    return (
        "paribus: measure the effect of a vision training technique, all else being equal.\n\n"
        f"{tree.overview()}\n\n"
        f"{textwrap.fill(exit_codes(codes), 110)}\n"
        "PARIBUS_DEBUG=1 shows tracebacks. PARIBUS_DATA is the folder of the data sets.\n"
        "paribus COMMAND --help says more on each command."
    )


def _leave_while_starting() -> None:
    """A scheduler's signal while torch is imported: nothing is lost yet, and the job should be requeued.
    From its first step, a run handles signals itself (engine/stop.py)."""

    def leave(number: int, _: object) -> None:
        sys.stderr.write(f"paribus: {signal.Signals(number).name} while starting; run the same command again\n")
        sys.stderr.flush()
        os._exit(REQUEUE)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(number, leave)


def complain(message: str, code: int) -> int:
    """One line on standard error, with the rank if there are several; the traceback as well if PARIBUS_DEBUG is set."""
    if os.environ.get("PARIBUS_DEBUG") == "1" and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"paribus{_rank()}: {message}", file=sys.stderr)
    return code


def _rank() -> str:
    from paribus.engine.world import from_environment

    with suppress(ConfigError):  # an invalid RANK is what the message is about
        return f" [rank {rank}]" if (rank := from_environment().rank) else ""
    return ""

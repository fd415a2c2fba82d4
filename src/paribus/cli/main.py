"""The command line: finds the subcommand and turns what went wrong into one line and an exit code.

Imports nothing heavy, so that `paribus --help` answers at once.
"""

import errno
import importlib
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from types import FrameType
from typing import NoReturn, TextIO, cast

from paribus import __version__
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.exit_codes import BAD_CONFIG, FAILED, OK, REQUEUE
from paribus.core.terminal import TolerantStdout

HELP = """\
paribus: what a vision training technique is worth, all else being equal.

  paribus train experiment=quickstart technique=cutmix    train, evaluate, record; again to resume; -q for less
  paribus train --help                                    every setting, with its default
  paribus eval RUN|CHECKPOINT [data.root=DIR]             evaluate a trained network again
  paribus export RUN|CHECKPOINT                           weights as safetensors, for paribus.load and plain torch
  paribus verify RUN [--steps K | --span A:B]             train it again, or a part: are the bits the same?
  paribus study plan|run|status|cancel|import FOLDER      many runs as one answer; run again to go on
  paribus study report FOLDER                             verdicts, tables, figures; --fail-if makes it a gate
  paribus compare RUN... --against RUN...                 the same statistics for any finished runs
  paribus wandb sync RUN [--offline]                      tell Weights & Biases of a run again, from its record
  paribus data prepare|check|list                         sets of images: checked, packed once, listed
  paribus list techniques|models|experiments|data|runs|studies
  paribus bench techniques|loop|data|start [--quick]      speed, beside the public implementations installed
  paribus cards [NAME] [--write]                          the technique cards of a checkout, checked or written anew
  paribus results [--write]                               README's table and all reports, from the rows on record
  paribus completion bash|zsh|fish                        a script for the Tab key

Exit codes: 0 done, or done before; 1 failed; 2 the input is wrong; 3 a study ended with failures; 4 a replay
differs; 75 stopped with a checkpoint, run again to go on.
PARIBUS_DEBUG=1 shows tracebacks. PARIBUS_DATA is where data sets lie."""


# the subcommand, and the file of paribus.cli whose `run`, or other function, takes its arguments
COMMANDS = {
    "train": "train",
    "eval": "eval",
    "export": "export",
    "verify": "verify",
    "study": "study.commands",
    "compare": "compare",
    "wandb": "wandb",
    "list": "list",
    "data": "data",
    "bench": "bench",
    "cards": "cards",
    "results": "results",
    "completion": "completion",
    "_complete": "completion:run_complete",  # what the shells' scripts call
}


def main() -> NoReturn:
    signal.signal(signal.SIGINT, _leave)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 — as long as the process
        getattr(sys, name).reconfigure(errors="replace")  # a locale without × is no reason to fail
    out = TolerantStdout(sys.stdout)
    sys.stdout = cast(TextIO, out)
    code = dispatch(sys.argv[1:])
    out.flush()
    # `paribus list runs | head`: that nobody reads on is no error
    if out.failure is not None and out.failure.errno != errno.EPIPE:
        training = sys.argv[1:2] == ["train"]  # has its result in the run folder
        code = complain(
            f"standard output cannot be written: {out.failure.strerror}", code if training else code or FAILED
        )
    if "torch.distributed" in sys.modules and "MASTER_ADDR" in os.environ:
        # torch aborts one of some dozens of ranks as the interpreter goes down; by now all is written, the group left
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C before training listens to it. As an exception it would be turned into others by what torch imports."""
    os.write(2, b"paribus: interrupted\n")
    os._exit(130)


def dispatch(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return OK
    if arguments[0] in ("-V", "--version"):
        print(f"paribus {__version__}")
        return OK
    if arguments[0] not in COMMANDS:
        there = ", ".join(name for name in COMMANDS if name[0] != "_")
        return complain(f"{arguments[0]}: no such command; there are {there} (paribus --help)", BAD_CONFIG)
    try:
        if "RANK" in os.environ:
            from paribus.engine.world import end_with_launcher

            end_with_launcher()
        if arguments[0] == "train":
            _leave_while_starting()
        module, _, function = COMMANDS[arguments[0]].partition(":")
        return getattr(importlib.import_module(f"paribus.cli.{module}"), function or "run")(arguments[1:])
    except ConfigError as error:
        return complain(str(error), BAD_CONFIG)
    except RunFailed as error:
        return complain(str(error), FAILED)


def _leave_while_starting() -> None:
    """A scheduler's signal while torch is imported: nothing is lost yet, and the run wants its requeue. From its first
    step on a run listens itself (engine/stop.py)."""

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

    with suppress(ConfigError):  # a RANK that is no number is what the message is about
        return f" [rank {rank}]" if (rank := from_environment().rank) else ""
    return ""

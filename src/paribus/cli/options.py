"""What the arguments of every command are made of: the parser, the types of values, what a value completes to.

Imports nothing but argparse, because shell completion waits for it.
"""

import argparse
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from paribus.core.errors import ConfigError
from paribus.core.exit_codes import BAD_CONFIG, OK

# what a value may complete to besides fixed words; completion.py looks each of them up
Kind = Literal[
    "run",
    "run or file",
    "study",
    "study or override",
    "folder",
    "file",
    "data set",
    "card",
    "override",
    "data override",
    "doctor",
    "technique",
]
_COMPLETES = "completes"  # the attribute of an argparse action


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps running text, and keeps a paragraph with indented lines as it is: a table, a list of commands."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # whose names are indented, which argparse does not count
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        shown: list[str] = []
        for paragraph in text.strip("\n").split("\n\n"):
            kept = paragraph.startswith(" ") or "\n " in paragraph
            shown.append(paragraph if kept else super()._fill_text(paragraph, width, indent))
        return "\n\n".join(shown)


class Parser(argparse.ArgumentParser):
    """The arguments of a command. What is wrong with a command line is one line, as everywhere."""

    def __init__(self, prog: str | None = None, **kwargs: Any) -> None:
        super().__init__(prog, formatter_class=_HelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: #"):  # a shell that takes no comments in a line that is typed
            message += "; what follows # is a comment of the documentation, leave it out"
        # without the program's name, with which every message begins anyway
        raise ConfigError(f"{self.prog.removeprefix('paribus ')}: {message}; {self.prog} --help shows the usage")

    def flags(self) -> dict[str, argparse.Action]:
        """Every spelling of every option."""
        return {flag: action for action in self._actions for flag in action.option_strings}

    def positionals(self) -> list[argparse.Action]:
        return [a for a in self._actions if not a.option_strings and not isinstance(a, argparse._SubParsersAction)]

    def commands(self) -> dict[str, "Parser"]:
        """The sub-commands."""
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {name: parser for group in groups for name, parser in group.choices.items()}


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace | None:
    """The arguments; None if the words ask for help, which has been printed. Raises ConfigError."""
    try:
        return parser.parse_intermixed_args(words)
    except SystemExit:  # how argparse ends --help
        return None


def path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # Path.expanduser raises where there is no such user


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a whole number within bounds."""
    wanted = f"a whole number, at least {least}" if most is None else f"a whole number from {least} to {most}"

    def convert(text: str) -> int:
        # more than 18 digits is no plausible count, and int() refuses very long ones
        if not text.isdecimal() or len(text) > 18 or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"found {text!r}; should be {wanted}")
        return int(text)

    return convert


count = whole_number(1)


def amount(text: str) -> float:
    """The type of a number that is 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; should be a number, 0 or more")
    return value


def time_span(text: str) -> float:
    """The type of a time, in seconds.

    >>> time_span("90s"), time_span("150m"), time_span("1h30m")
    (90.0, 9000.0, 5400.0)
    """
    # more than 9 digits is no plausible time
    found = re.fullmatch(r"(?=.)(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if (total := 3600 * hours + 60 * minutes + seconds) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}; should be a time such as 90s, 150m, 2h or 1h30m, not 0")
    return float(total)


def completes(action: argparse.Action, what: Kind | tuple[str, ...]) -> None:
    """Declare what the value of an argument completes to: a kind that is looked up, or one of these words."""
    setattr(action, _COMPLETES, what)


def completion_of(action: argparse.Action) -> Kind | tuple[str, ...] | None:
    return getattr(action, _COMPLETES, None)


def add_direction(parser: argparse._ActionsContainer) -> None:  # pyright: ignore[reportPrivateUsage]
    """--lower-is-better and --higher-is-better, for a metric whose name does not say it."""
    parser.add_argument("--lower-is-better", action="store_true", help="of the metric: an error; always set for losses")
    parser.add_argument(
        "--higher-is-better", action="store_true", help="of the metric: a score; always set for accuracies"
    )


def add_config_dir(
    parser: argparse._ActionsContainer, what: str = "a folder with your own configs: DIR/GROUP/NAME.yaml"
) -> None:
    """--config-dir, spelled as in `paribus train`, where it is Hydra's."""
    completes(parser.add_argument("-cd", "--config-dir", type=path, metavar="DIR", help=what), "folder")


def exit_codes(meanings: Mapping[int, str] | None = None) -> str:
    """The last line of a command's help. meanings: of its exit codes, where they are not the usual ones."""
    usual = {OK: "done", BAD_CONFIG: "the input is wrong"}
    codes = sorted({**usual, **(meanings or {})}.items())
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in codes)}."

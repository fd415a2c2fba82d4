"""A command line's options; what is wrong with them is one line, as everywhere."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from paribus.core.errors import ConfigError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; {self.prog} --help names the options")


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace | None:
    """The options; None if they asked for help, which has been printed. Raises ConfigError."""
    try:
        return parser.parse_args(arguments)
    except SystemExit:  # how argparse ends --help
        return None

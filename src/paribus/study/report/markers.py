"""A part of a Markdown file that is written by a command: between two lines that are comments, of which the first names
what is in it."""

from dataclasses import dataclass
from pathlib import Path
from re import Pattern

from paribus.core.errors import ConfigError


@dataclass(frozen=True)
class Markers:
    """begin: a whole line, with the names in its one group. end: a whole line. form: the first line in words."""

    begin: Pattern[str]
    end: str
    form: str

    def stand_in(self, text: str) -> bool:
        return self.begin.search(text) is not None or self.end in text

    def parse_names(self, text: str, path: Path) -> tuple[str, ...]:
        """What the first line names. Raises ConfigError unless the text has it once and then the other one once."""
        begins = list(self.begin.finditer(text))
        if len(begins) != 1 or text.count(self.end) != 1 or text.index(self.end) < begins[0].end():
            raise ConfigError(
                f"{path}: should have one line {self.form} and after it one line {self.end}; found {len(begins)} and "
                f"{text.count(self.end)}"
            )
        return tuple(begins[0][1].split())

    def insert(self, part: str, text: str) -> str:
        """The text with this part between its markers, which it has."""
        before, after = text[: next(self.begin.finditer(text)).end()], text[text.index(self.end) :]
        return f"{before}\n\n{part}\n\n{after}"

"""The report as data: sentences, tables and sections in reading order. markdown.py and html.py only render it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells are text already. left: the columns that hold words; the others hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = frozenset({0})
    caption: str = ""


@dataclass(frozen=True)
class ShownPicture:
    """file: its path in the study's folder."""

    title: str
    caption: str
    file: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """figures: keys of plots. short: also part of the README."""

    key: str
    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    short: bool = True
    pictures: tuple[ShownPicture, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """A verdict in plain words and the numbers it rests on. kind: better, worse, same or open. why: what else was seen
    that may explain it; "" where nothing was."""

    kind: str
    said: str
    numbers: str
    why: str = ""


@dataclass(frozen=True)
class Report:
    """troubles: what is missing, failed or numerically mixed, in a few words each; shown in the title. remarks: how the
    verdicts are to be read."""

    name: str
    troubles: tuple[str, ...]
    question: str
    facts: tuple[tuple[str, str], ...]
    verdicts: tuple[Sentence, ...]
    remarks: tuple[str, ...]
    cautions: tuple[str, ...]
    sections: tuple[Section, ...]
    again: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.name}: {', '.join(self.troubles)}" if self.troubles else self.name

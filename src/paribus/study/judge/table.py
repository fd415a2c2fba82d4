"""A table from a file that anybody's program wrote: CSV (comma, semicolon or tab), JSON lines, or a JSON list.

Cells stay text until a column's meaning is known, so that a wrong one can be named with its line.
"""

import csv
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list

STDIN = Path("-")
_TOO_DEEP = "is JSON nested too deeply to be read"
_ROWS = "rows are CSV with a head, or one JSON object a line"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class SourceTable:
    """rows: cells by column; "" where there is none. lines: of the file, one for each row, for messages. decimal_comma:
    whether 0,5 is a half, as in files with semicolons."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Sequence[str], ...]
    lines: Sequence[int]
    decimal_comma: bool = False

    def cells(self, column: str) -> list[str]:
        i = self.columns.index(column)
        return [row[i] for row in self.rows]

    def where(self, row: int) -> str:
        return f"{self.name}: line {self.lines[row]}"

    def numbers(self, column: str) -> list[float | None]:
        """See `number`; in one go where all of them are plain, as 100,000 rows mostly are."""
        cells = self.cells(column)
        try:
            return [float(text) for text in cells]
        except ValueError:
            return [self.number(text) for text in cells]

    def has_percent(self, column: str) -> bool:
        """Whether a % stands in the column's name or at one of its numbers."""
        return "%" in column or any("%" in text for text in self.cells(column))

    def number(self, text: str) -> float | None:
        """None where it is not one; NaN and infinities are."""
        try:
            return float(text)
        except ValueError:
            return self._number_as_typed(text)

    def _number_as_typed(self, text: str) -> float | None:
        """93.4 % or 93,4."""
        text = text.removesuffix("%").rstrip()
        if self.decimal_comma and "." not in text:
            text = text.replace(",", ".")
        try:
            return float(text)
        except ValueError:
            return None


def read_table(path: Path) -> SourceTable:
    """The rows of a file, or of standard input for `-`. Raises ConfigError, in one line, for what is no table."""
    name = "standard input" if path == STDIN else str(path)
    text = _read_text(path, name)
    if not text.strip():
        raise ConfigError(f"{name}: is empty; {_ROWS}")
    start = text.lstrip()[0]
    if start == "{":
        table = _from_objects(name, _parse_lines(name, text))
    elif start == "[":
        table = _from_objects(name, _parse_list(name, text))
    else:
        table = _parse_csv(name, text)
    if not table.rows:
        raise ConfigError(f"{name}: has a head and no rows; {_ROWS}")
    return table


def _read_text(path: Path, name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}: line {line} is not UTF-8 text; save it as UTF-8") from error


def _parse_csv(name: str, text: str) -> SourceTable:
    delimiter = _find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    head: list[str] = []
    before = 0
    try:
        for row in reader:
            line, before = before + 1, reader.line_num
            # a cell over several lines becomes one, so that a message about it does too
            cells = [cell.strip() for cell in row] if line == before else [" ".join(cell.split()) for cell in row]
            if not any(cells):
                continue
            if not head:
                head = cells
            elif len(cells) != len(head):
                raise ConfigError(
                    f"{name}: line {line} has {len(cells)} cells and the head {len(head)}; "
                    'a cell with a separator in it stands in quotes: "a, b"'
                )
            else:
                rows.append(cells)
                lines.append(line)
    except csv.Error as error:
        raise ConfigError(f"{name}: line {reader.line_num} is not CSV: {error}") from error
    if all(_NUMBER.fullmatch(cell) for cell in head):
        raise ConfigError(f"{name}: line 1 has numbers only; it should name the columns, e.g. arm,seed,value")
    _check_head(name, head)
    return SourceTable(name, tuple(head), tuple(rows), lines, decimal_comma=delimiter == ";")


def _find_delimiter(text: str) -> str:
    """The one that gives the head most columns; the comma of equals."""
    first = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]

    def count(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=delimiter)))
        except csv.Error:
            return 0

    return max(",;\t", key=lambda d: (count(d), d == ","))


def _check_head(name: str, head: Sequence[str]) -> None:
    if twice := [column for column, n in Counter(head).items() if n > 1 and column]:
        raise ConfigError(f"{name}: column {twice[0]} is there twice; rename one of them")


def _parse_lines(name: str, text: str) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except RecursionError as error:
                raise ConfigError(f"{name}: line {number} {_TOO_DEEP}; {_ROWS}") from error
            except ValueError as error:
                raise ConfigError(f"{name}: line {number} is not JSON ({error}); {_ROWS}") from error
    return found


def _parse_list(name: str, text: str) -> list[tuple[int, Any]]:
    """Of a list the place in it stands for the line."""
    try:
        return list(enumerate(json.loads(text), start=1))
    except RecursionError as error:
        raise ConfigError(f"{name}: {_TOO_DEEP}; {_ROWS}") from error
    except ValueError as error:
        raise ConfigError(f"{name}: is not JSON ({error}); {_ROWS}") from error


def _from_objects(name: str, found: Iterable[tuple[int, Any]]) -> SourceTable:
    objects: list[dict[str, str]] = []
    lines: list[int] = []
    for line, value in found:
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: line {line} is {type(value).__name__}, not an object such as {{...}}; {_ROWS}")
        objects.append(_flatten(value))
        lines.append(line)
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    return SourceTable(name, columns, tuple([row.get(key, "") for key in columns] for row in objects), lines)


def _flatten(value: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested objects as dotted keys: {"config": {"lr": 1}} is config.lr."""
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= _flatten(item, f"{before}{key}.")
        elif not isinstance(item, list):
            found[f"{before}{key}"] = _write(item)
    return found


def _write(item: Any) -> str:
    """A value of JSON as a cell; a float keeps every bit."""
    if item is None:
        return ""
    return str(item).lower() if isinstance(item, bool) else " ".join(str(item).split())


def join_tables(tables: Sequence[SourceTable], column: str) -> SourceTable:
    """Tables below each other, with the name of each row's file as a column of its own. Raises ConfigError where they
    do not have the same columns."""
    first = tables[0]
    for other in tables[1:]:
        if unlike := sorted({*first.columns} ^ {*other.columns}):
            raise ConfigError(
                f"{first.name} and {other.name} have different columns ({format_list(unlike)}); give files alike"
            )
    rows: list[list[str]] = []
    lines: list[int] = []
    for table in tables:
        order = [table.columns.index(name) for name in first.columns]
        stem = table.name if table.name == "standard input" else Path(table.name).stem
        rows += [[*(row[i] for i in order), stem] for row in table.rows]
        lines += table.lines
    name = format_list(table.name for table in tables)
    return SourceTable(name, (*first.columns, column), tuple(rows), lines, first.decimal_comma)


def read_value(table: SourceTable, column: str, row: int, text: str, failed: bool) -> float:
    """failed: whether what is no finite number stands for a failed run."""
    value = table.number(text) if text else math.nan
    if value is None:
        raise ConfigError(f"{table.where(row)}: {column} is {text!r}, not a number")
    if math.isfinite(value):
        return value
    if not failed:
        what = f"is {text}" if text else "is empty"
        raise ConfigError(f"{table.where(row)}: {column} {what}; remove the row, or count it as failed with --failed")
    return math.nan

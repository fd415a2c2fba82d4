"""The journal of an unfinished pack: a chunk of pixels counts once its line is here and both are on the disk."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from paribus.data.trees.tree import SPLITS


@dataclass(frozen=True)
class JournalLine:
    """A finished chunk in the journal."""

    split: str
    rows: int
    sha256: str
    skipped: tuple[tuple[int, str], ...]


def append_to_disk(file: IO[bytes], content: bytes) -> None:
    """Append, and flush to the disk. A partial write, as on a full disk, is removed again."""
    start = file.seek(0, os.SEEK_END)
    try:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(start)
        raise


def format_journal_line(line: JournalLine) -> str:
    return json.dumps([line.split, line.rows, line.sha256, line.skipped]) + "\n"


def read_journal(journal: Path) -> Iterator[JournalLine]:
    """Lines up to the first incomplete one."""
    for text in journal.read_bytes().splitlines():
        try:
            split, rows, digest, skipped = json.loads(text)
            line = JournalLine(split, rows, digest, tuple((int(i), str(reason)) for i, reason in skipped))
        except (ValueError, TypeError, RecursionError):
            return
        if split not in SPLITS or not isinstance(rows, int) or rows < 0:
            return
        yield line

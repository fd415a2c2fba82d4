"""looks.jsonl: when someone was shown the verdicts of a study, and on which rows. Committed beside results.jsonl.

Each line is {"schema", "time", "rows", "arms", "digest", "frozen"}: how many done rows there were, in all and by arm, a
hash of their ids, and what was frozen then (frozen.py); and, where looks were planned and one was made, {"interim":
{"number", "verdicts": {"A against B": verdict}}}. A line is added where verdicts are shown (`paribus study
report`, `paribus results --write`), and only if the ids or what is frozen differ from the last line's. Margins and
seeds that are chosen after a look are chosen by the numbers; reports say so.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically
from paribus.study.frozen import Frozen, freeze_spec, parse_frozen, plain_frozen
from paribus.study.jsonl import read_lines
from paribus.study.rows import Row, lock_study
from paribus.study.spec import Study

SCHEMA = 1
LOOKS = "looks.jsonl"


@dataclass(frozen=True)
class RecordedInterim:
    """A planned look as it was recorded. number: counted from 1. verdicts: "A against B" -> the verdict in words, of
    the comparisons that were closed by then."""

    number: int
    verdicts: Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """time: ISO 8601. rows: done ones. arms: arm -> done rows. digest: of the rows' ids. interim: the last planned look
    that these rows made; None where there is none."""

    time: str
    rows: int
    arms: Mapping[str, int]
    digest: str
    frozen: Frozen
    interim: RecordedInterim | None = None


def looks_path(study: Study) -> Path:
    return study.folder / study.stage / LOOKS


def read_looks(study: Study) -> list[Look]:
    """In the order in which they were made; [] if there is no file. Raises ConfigError for a damaged or newer one."""
    path = looks_path(study)
    lines = read_lines(path, SCHEMA, "restore it from git or from a copy")
    try:
        return [
            Look(
                *(line["time"], line["rows"], line["arms"], line["digest"], parse_frozen(line["frozen"])),
                RecordedInterim(**line["interim"]) if "interim" in line else None,
            )
            for line in lines
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}; restore it from git or from a copy") from error


def add_look(study: Study, rows: Iterable[Row], interim: RecordedInterim | None = None) -> None:
    """Record that these rows' verdicts are shown, unless the last look was the same. interim: the last planned look
    that they made. Raises ConfigError."""
    done = [row for row in rows if row.state == "done"]
    arms = Counter(row.arm for row in done)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    look = Look(now, len(done), dict(sorted(arms.items())), hash_ids(done), freeze_spec(study.spec), interim)
    path = looks_path(study)
    try:
        with lock_study(study):
            before = read_looks(study)
            if not before or _shown(before[-1]) != _shown(look):
                text = path.read_text() if before else ""
                line = {"schema": SCHEMA, **asdict(look), "frozen": plain_frozen(look.frozen)}
                if interim is None:
                    del line["interim"]
                write_atomically(path, text + json.dumps(line) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; a look at results is put on record") from error


def _shown(look: Look) -> tuple[str, Frozen, RecordedInterim | None]:
    return look.digest, look.frozen, look.interim


def hash_ids(rows: Iterable[Row]) -> str:
    """Of the done rows' ids, in whatever order they come."""
    ids = sorted(row.id for row in rows if row.state == "done")
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]

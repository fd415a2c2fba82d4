"""events.jsonl: the record of a run and the only thing training has to write. One step, one line, once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paribus.core.build import schema
from paribus.core.events import read_events
from paribus.core.runfolder import EVENTS, write_atomically


def drop_events_after(path: Path, step: int) -> None:
    """Drop what was recorded after `step`, which a run that resumes from there will record again."""
    copy_events(path, path, step)


def copy_events(source: Path, target: Path, step: int) -> None:
    """Leave in `target` what `source` recorded up to `step`."""
    remaining = [event for event in read_events(source) if event["step"] <= step]
    text = "".join(_format_line(event["step"], event["values"]) for event in remaining)
    if not target.exists() or target.read_text(errors="replace") != text:
        write_atomically(target, text)


def _format_line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, "values": dict(values)}, allow_nan=False) + "\n"


class EventLog:
    """Appends. A line survives this process at once, and a power cut from the next checkpoint on, which syncs the
    record first: syncing here would wait for a slow disk at every line."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 — closed in close()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(_format_line(step, values))
        self._file.flush()

    def close(self, summary: Mapping[str, Any]) -> None:
        self._file.close()


@schema
class Events:
    """The local record. Always on: `tracker=events` means no other tracker."""

    def __call__(self, folder: Path, start: int, total: int) -> EventLog:
        drop_events_after(folder / EVENTS, start)
        return EventLog(folder / EVENTS)

"""Reading events.jsonl, the record of a run: it ends at the first line that a crash or a full disk truncated."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paribus.core.renamed import old_names


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a file, up to the first line that is truncated or damaged."""
    if not path.exists():
        return []
    events: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline was cut short
        event = parse_event(line)
        if event is None:
            break
        events.append(event)
    return events


def parse_event(line: bytes) -> dict[str, Any] | None:
    """The event of a whole line; None if it is damaged."""
    try:
        event = json.loads(line)
        return event if isinstance(event["step"], int) and isinstance(event["values"], dict) else None
    except (ValueError, KeyError, TypeError):
        return None


if not TYPE_CHECKING:
    __getattr__ = old_names(__name__, {"event_in": "parse_event"})

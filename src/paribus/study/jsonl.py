"""Files of one JSON object per line, each with the version of its schema."""

import json
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError


def read_lines(path: Path, schema: int, advice: str, torn: bool = False) -> list[dict[str, Any]]:
    """All lines; [] if there is no file. torn: leave out a last line that was cut off, without its end and no JSON.
    Raises ConfigError for a damaged line, or one that a newer paribus wrote."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    content = path.read_bytes()
    texts = content.splitlines()
    if torn and texts and not content.endswith(b"\n") and not _is_json(texts[-1]):
        texts.pop()
    for number, text in enumerate(texts, start=1):
        try:
            line: Any = json.loads(text)
            version = line["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: line {number} is damaged ({error}); {advice}") from error
        if not isinstance(version, int) or version > schema:
            raise ConfigError(
                f"{path}: line {number} is of schema {version}; this paribus reads up to {schema}; install a newer one"
            )
        lines.append(line)
    return lines


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

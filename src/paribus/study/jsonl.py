"""Files of one JSON object per line, each with the version of its schema."""

import json
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError


def read_lines(path: Path, schema: int, advice: str) -> list[dict[str, Any]]:
    """All lines; [] if there is no file. Raises ConfigError for a damaged line, or one that a newer paribus wrote."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_bytes().splitlines(), start=1):
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

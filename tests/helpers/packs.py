"""Packs of images in tests: made in silence, in small chunks, and compared as bytes."""

from pathlib import Path

import pytest

from paribus.data.packs import write
from paribus.data.packs.write import ProgressSink

QUIET = ProgressSink(lambda line: None, lambda total, done: lambda more: None)


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of 16 pixels a chunk, so that a small tree has several."""
    monkeypatch.setattr(write, "_CHUNK_BYTES", 2 * 16 * 16 * 3)


def content(folder: Path) -> dict[str, bytes]:
    """What a pack consists of; the lock stays empty."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}

"""The C kernels of the data room: with them and without, and with one place changed, for negative controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paribus.data.ops import native

needs_a_compiler = pytest.mark.skipif(native.load_kernels() is None, reason="no C compiler")
both_ways = pytest.mark.parametrize("way", ["kernel", "tensors"], indirect=True)  # the fixture of tests/parity


@contextmanager
def mutant(source: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """source: _SOURCE or _COLOR_SOURCE of data/ops/native.py. old stands in it once."""
    text = getattr(native, source).read_text()
    assert text.count(old) == 1
    broken = folder / "broken.c"
    broken.write_text(text.replace(old, new))
    with monkeypatch.context() as patch:
        patch.setenv("PARIBUS_CACHE", str(folder))
        patch.setattr(native, source, broken)
        native.load_kernels.cache_clear()
        try:
            yield
        finally:
            native.load_kernels.cache_clear()

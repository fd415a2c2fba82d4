"""Files of a pack beside its pixels: arrays of its rows that came from a file of the tree, as NumPy's npz.

An array is called SPLIT or SPLIT/NAME and has a row for each image of the split, in order. `source` is the sha256 of
the tree's file, `pack` the checksum of the pack that the rows are of. So a pack's checksum does not depend on them, and
`paribus data prepare` brings them up to date without making the pack again.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically
from paribus.data.packs.format import PackRecord

Array = np.ndarray[Any, Any]
_TEXTS = ("source", "pack")


@dataclass(frozen=True)
class SideFile:
    arrays: Mapping[str, Array]
    source: str
    pack: str


def write_side_file(path: Path, side: SideFile) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {**side.arrays, "source": np.array(side.source), "pack": np.array(side.pack)}
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())


def is_current(path: Path, source: str, record: PackRecord) -> bool:
    """Whether the file is there and of this pack and of the tree's file with this sha256."""
    found = _read(path)
    return found is not None and (found.source, found.pack) == (source, record.checksum)


def read_side_file(
    path: Path, record: PackRecord, source: str, source_path: Path | None, command: str
) -> SideFile | None:
    """None if the pack has no such file. source: sha256 of the tree's file, "" where that is not known. command: makes
    the pack again. Raises ConfigError for a damaged file, and for one of another pack or made from another file."""
    if not path.exists():
        return None
    found = _read(path)
    again = f"make it again with: {command}"
    if found is None or not _fits(found, record):
        raise ConfigError(f"{path} is damaged; {again}")
    if found.pack != record.checksum:
        raise ConfigError(f"{path} is of another pack; {again}")
    if source not in ("", found.source):
        raise ConfigError(f"{path} was made from another {source_path}; {again}")
    return found


def _fits(side: SideFile, record: PackRecord) -> bool:
    lengths = {split: part.images for split, part in record.splits.items()}
    return all(len(values) == lengths.get(name.partition("/")[0], -1) for name, values in side.arrays.items())


def _read(path: Path) -> SideFile | None:
    """None if the file is not there or is damaged."""
    try:
        with np.load(path) as content:
            source, pack = (str(content[name]) for name in _TEXTS)
            return SideFile({name: content[name] for name in content.files if name not in _TEXTS}, source, pack)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None

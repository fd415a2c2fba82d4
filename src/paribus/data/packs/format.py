"""The on-disk format of a pack, read and checked without torch.

pack.json                   what is in it and how it was made; replaced atomically when a pack is finished
SPLIT-PLAN.pixels           uint8 rows of size · size · channels numbers, one per image
SPLIT-PLAN.targets, .ids    little-endian int64, one number per image
train-PLAN.names            the list of training file names, if one was given
unfinished-PLAN.jsonl       the journal of a pack that is being made (data/packs/journal.py)
lock                        held while one is being made

PLAN is a digest of the source and the rules, so that an unfinished pack is written beside the finished one, never into
it.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from paribus.core.build import instantiate, schema
from paribus.core.errors import ConfigError
from paribus.core.long_step import long_step
from paribus.data.trees.manifest import FOLDER, load_manifest
from paribus.data.trees.select import compute_fingerprint, select_images
from paribus.data.trees.tree import SPLITS, find_tree, list_images

FORMAT_VERSION = 1
RECORD_FILE = "pack.json"
_ROW_BYTES = 8  # of a target and of an id
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_File = Annotated[str, Field(pattern=r"^[\w-]+\.[a-z]+$")]
_Count = Annotated[int, Field(ge=0)]


@schema
class SplitRecord:
    """images: number of rows. listed: images of the source, skipped ones included. chunk: images of the source per
    sha256. rows: of each chunk, fewer where images were skipped. skipped: file and reason."""

    images: _Count
    listed: _Count
    pixels: _File
    targets: _File
    ids: _File
    chunk: Annotated[int, Field(ge=1)]
    rows: tuple[_Count, ...]
    sha256: tuple[_Digest, ...]
    targets_sha256: _Digest
    ids_sha256: _Digest
    skipped: tuple[str, ...] = ()


@schema
class PackRecord:
    """pack.json. rule: how images were chosen, decoded and resized, in words. names: the file with the list of training
    images. tree: path of the source, for information. fingerprint: of the source (data/trees/select.py). partial: what
    the source lacked. channels: of the pixels; 3 is not written."""

    format: int
    name: str
    size: Annotated[int, Field(ge=1, le=4096)]
    classes: tuple[str, ...]
    splits: dict[str, SplitRecord]
    rule: dict[str, str]
    versions: dict[str, str]
    tree: str
    fingerprint: _Digest
    partial: tuple[str, ...] = ()
    names: _File | None = None
    channels: Annotated[int, Field(ge=1, le=4)] = 3
    checksum: _Digest

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return self.size * self.size * self.channels


def compute_pack_checksum(
    name: str, size: int, classes: tuple[str, ...], splits: Mapping[str, SplitRecord], channels: int = 3
) -> str:
    """sha256 over the checksums of everything that training reads."""
    parts = {k: [s.images, s.chunk, s.rows, s.sha256, s.targets_sha256, s.ids_sha256] for k, s in splits.items()}
    further = [] if channels == 3 else [channels]  # packs from before there were others keep their checksums
    text = json.dumps([FORMAT_VERSION, name, size, classes, parts, *further], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def format_record(record: PackRecord) -> str:
    content = asdict(cast(Any, record))
    if record.channels == 3:  # so that an earlier paribus reads it
        del content["channels"]
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def format_prepare_command(
    name: str,
    size: int,
    folder: Path,
    root: Path | None,
    record: PackRecord | None = None,
    listed: str = "FILE",
    channels: int = 3,
) -> str:
    """The command that makes this pack, ready to copy. record: of the existing pack, whose options are kept."""
    words = ["paribus", "data", "prepare", name, "--root", str(root) if root else "DIR", "--size", str(size)]
    words += ["--channels", str(channels)] if channels != 3 else []
    if root is None or folder != default_folder(root, name, size, channels):
        words += ["--out", str(folder)]
    if record is not None:
        words += ["--allow-missing"] if record.partial else []
        words += ["--on-error", "skip"] if any(s.skipped for s in record.splits.values()) else []
        words += ["--list", listed] if record.names else []
    return shlex.join(words)


def default_folder(root: Path, name: str, size: int, channels: int = 3) -> Path:
    """The default folder of a pack."""
    return root / "packed" / (f"{name}-{size}" if channels == 3 else f"{name}-{size}-c{channels}")


def read_record(folder: Path) -> PackRecord | None:
    """None if there is no pack. Raises ConfigError if its pack.json is of another format, or damaged."""
    path = folder / RECORD_FILE
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged or cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged: found {type(content).__name__}, expected an object")
    if content.get("format") != FORMAT_VERSION:
        raise ConfigError(
            f"{folder} is a pack of format {content.get('format')!r}; this paribus reads format {FORMAT_VERSION}"
        )
    splits = content.get("splits")
    if not isinstance(splits, dict) or set(splits) != {"train", "val"}:
        raise ConfigError(f"{path} is damaged: splits: expected train and val")
    try:
        made = {k: instantiate(SplitRecord, _lists_to_tuples(v), f"splits.{k}") for k, v in splits.items()}
        record = instantiate(PackRecord, {**_lists_to_tuples(content), "splits": made})
    except ConfigError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    for key, s in record.splits.items():
        if len(s.rows) != len(s.sha256) or sum(s.rows) != s.images or s.images > s.listed:
            raise ConfigError(f"{path} is damaged: splits.{key}: its counts contradict each other")
    found = compute_pack_checksum(record.name, record.size, record.classes, record.splits, record.channels)
    if found != record.checksum:
        raise ConfigError(f"{path} is damaged: its checksum is not that of its content")
    return record


def _lists_to_tuples(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"found {type(content).__name__}, expected an object")
    return {str(k): tuple(v) if isinstance(v, list) else v for k, v in content.items()}


def list_file_sizes(record: PackRecord) -> dict[str, int]:
    """Files of a pack and their sizes in bytes."""
    found: dict[str, int] = {}
    for s in record.splits.values():
        found |= {
            s.pixels: s.images * record.image_bytes,
            s.targets: s.images * _ROW_BYTES,
            s.ids: s.images * _ROW_BYTES,
        }
    return found


def find_faults(folder: Path, record: PackRecord, deep: bool) -> Iterator[str]:
    """What is wrong with a pack's files: sizes, and checksums of the first and last chunk, or, if deep, of all."""
    for file, expected in list_file_sizes(record).items():
        try:
            found = (folder / file).stat().st_size
        except OSError as error:
            yield f"{folder / file}: {error.strerror}"
            continue
        if found != expected:
            yield f"{folder / file} has {found:,} bytes, {expected:,} expected"
    if record.names and not (folder / record.names).is_file():
        yield f"{folder / record.names} is not there"
    total = sum(s.images for s in record.splits.values())
    with long_step(f"checksums of {folder}", total if deep else 0, "images") as advance:
        for s in record.splits.values():
            try:
                yield from _find_wrong_checksums(folder, s, record.image_bytes, deep, advance)
            except OSError as error:
                yield f"{error.filename or folder / s.pixels}: {error.strerror}"


def _find_wrong_checksums(
    folder: Path, s: SplitRecord, row: int, deep: bool, advance: Callable[[int], None]
) -> Iterator[str]:
    for file, expected in ((s.targets, s.targets_sha256), (s.ids, s.ids_sha256)):
        if hashlib.sha256((folder / file).read_bytes()).hexdigest() != expected:
            yield f"{folder / file}: the checksum is not that of {RECORD_FILE}"
    with open(folder / s.pixels, "rb") as file:
        start = 0
        for i, (rows, expected) in enumerate(zip(s.rows, s.sha256, strict=True)):
            if deep or i in (0, len(s.rows) - 1):
                file.seek(start)
                if hashlib.sha256(file.read(rows * row)).hexdigest() != expected:
                    first = start // row
                    yield f"{folder / s.pixels}: images {first:,}–{first + rows - 1:,}: wrong checksum"
            start += rows * row
            advance(rows)


def explain_source_change(folder: Path, record: PackRecord, source_root: Path | None) -> str:
    """In words how the source differs from what was packed; "" if it does not, or is missing."""
    known = None if record.name == FOLDER else load_manifest(record.name)
    if source_root is None:
        return ""
    try:
        tree = find_tree(source_root, known)
    except ConfigError:
        return ""
    partial = bool(record.partial)
    try:
        names = read_training_names(folder, record)
        parts = [select_images(list_images(tree, split, known, partial), known, names, partial) for split in SPLITS]
    except ConfigError as error:
        return str(error)
    for part, packed in zip(parts, (record.splits[split] for split in SPLITS), strict=True):
        if len(part.paths) != packed.listed:
            return f"{tree / part.split} has {len(part.paths):,} images now, {packed.listed:,} then"
    if compute_fingerprint(parts) != record.fingerprint:
        return f"files in {tree} were replaced, renamed or copied anew (names, sizes or times differ)"
    return ""


def list_files(record: PackRecord) -> set[str]:
    return {RECORD_FILE, *list_file_sizes(record), *([record.names] if record.names else [])}


def read_training_names(folder: Path, record: PackRecord) -> tuple[str, ...] | None:
    """The list of names of the training images. Raises ConfigError if its file is missing."""
    return read_name_list(folder / record.names) if record.names else None


def read_name_list(path: Path) -> tuple[str, ...]:
    """One image per line, by file name or class/file. Raises ConfigError."""
    try:
        lines = os.fsdecode(path.read_bytes()).splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: the list of images cannot be read: {error.strerror}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise ConfigError(f"{path}: no names in it; expected one file name per line")
    return found

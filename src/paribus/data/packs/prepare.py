"""`paribus data prepare`: compares a tree of images with its manifest and packs it (data/packs/write.py)."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_count, format_list
from paribus.core.lock import locked
from paribus.data.packs.boxes import write_packed_boxes
from paribus.data.packs.facts import write_packed_facts
from paribus.data.packs.format import PackRecord, default_folder, find_faults, read_name_list, read_record
from paribus.data.packs.write import PackJob, PackWriter, ProgressSink
from paribus.data.trees import decoding
from paribus.data.trees.archives import ensure_unpacked
from paribus.data.trees.manifest import FOLDER, Manifest, load_manifest
from paribus.data.trees.select import compute_fingerprint, find_shortfalls, select_images
from paribus.data.trees.tree import SPLITS, Listing, explain_unread, find_tree, list_images


@dataclass(frozen=True)
class PrepareRequest:
    """What to prepare. out: the pack's folder, None for ROOT/packed/NAME-SIZE. names: file with the training images."""

    name: str
    root: Path
    size: int = 160
    out: Path | None = None
    workers: int = 1
    download: bool = False
    skip: bool = False
    allow_missing: bool = False
    names: Path | None = None
    channels: int = 3

    @property
    def folder(self) -> Path:
        return self.out or default_folder(self.root, self.name, self.size, self.channels)


@dataclass(frozen=True)
class SourceInspection:
    """A tree as it was found. parts: the images of each split. partial: what it lacks. names: of a list, if any."""

    tree: Path
    known: Manifest | None
    parts: dict[str, Listing]
    partial: tuple[str, ...]
    names: tuple[str, ...] | None


def inspect_source(request: PrepareRequest, progress: ProgressSink) -> SourceInspection:
    """Find the tree (unpacked or downloaded if needed) and compare it with the manifest. Raises ConfigError."""
    known = None if request.name == FOLDER else load_manifest(request.name)
    names = read_name_list(request.names) if request.names else None
    if known is None and request.download:
        raise ConfigError("--download: there is nothing to fetch for a tree of your own")
    try:
        tree = find_tree(request.root, known)
    except ConfigError:
        if known is None or not ensure_unpacked(known, request.root, request.size, request.download, progress.log):
            raise
        tree = find_tree(request.root, known)
    missing = request.allow_missing
    parts = {s: select_images(list_images(tree, s, known, missing), known, names, missing) for s in SPLITS}
    partial = find_shortfalls(parts, known, names) if known else []
    for split, part in parts.items():
        progress.log(f"{tree / split}: {len(part.paths):,} images, {len(part.classes) - len(part.absent):,} classes")
        if unread := explain_unread(part):
            progress.log(unread)
        if part.absent:
            progress.log(f"{tree / split}: no image of {format_list(part.absent)}")
    if partial and not missing:
        raise ConfigError(
            f"{tree} is not all of {request.name} ({'; '.join(partial)}); --allow-missing takes it as it is"
        )
    if partial:
        progress.log(f"a part of {request.name} only: {'; '.join(partial)}")
    return SourceInspection(tree, known, parts, tuple(partial), names)


def prepare(request: PrepareRequest, progress: ProgressSink) -> PackRecord:
    """Make the pack, resume an unfinished one, or return one that is up to date. Raises ConfigError, BadImage and
    RunFailed; an earlier pack stays until the new one is complete."""
    inspection = inspect_source(request, progress)
    source, folder = compute_fingerprint(inspection.parts.values()), request.folder
    _check_folder_is_for_packs(folder)
    with _disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            existing = _read_valid_pack(folder)
            if existing and _is_up_to_date(existing, request, inspection, source):
                progress.log(f"{folder} is packed already, from these files")
                _write_side_files(folder, existing, inspection, progress)
                return existing
            if existing and existing.channels != request.channels:
                had, will = (format_count(n, "channel") for n in (existing.channels, request.channels))
                progress.log(f"{folder} is a pack of {had}; it is made again with {will}")
            job = PackJob(
                name=request.name,
                size=request.size,
                folder=folder,
                workers=request.workers,
                skip=request.skip,
                tree=inspection.tree,
                parts=inspection.parts,
                partial=inspection.partial,
                names=inspection.names,
                rule=_describe_rule(inspection, request.channels),
                source=source,
                channels=request.channels,
            )
            record = PackWriter(job, progress).run()
            _write_side_files(folder, record, inspection, progress)
            return record


def _write_side_files(folder: Path, record: PackRecord, inspection: SourceInspection, progress: ProgressSink) -> None:
    for write in (write_packed_boxes, write_packed_facts):
        write(folder, record, inspection.tree, inspection.parts, progress.log)


def _check_folder_is_for_packs(folder: Path) -> None:
    """A pack needs a folder of its own: other files would be mixed with its own."""
    with suppress(OSError):
        there = sorted(p.name for p in folder.iterdir())
        if there and not any(name in ("pack.json", "lock") or name.startswith("unfinished-") for name in there):
            raise ConfigError(
                f"{folder} holds other files ({there[0]}); a pack needs a folder of its own, with --out DIR"
            )


def _read_valid_pack(folder: Path) -> PackRecord | None:
    """The pack there, if its files are intact."""
    try:
        record = read_record(folder)
    except ConfigError:  # damaged, or another format: made anew
        return None
    return record if record is not None and not any(find_faults(folder, record, deep=False)) else None


def _is_up_to_date(record: PackRecord, request: PrepareRequest, inspection: SourceInspection, source: str) -> bool:
    rule = _describe_rule(inspection, request.channels)
    return (record.name, record.size, record.channels, record.fingerprint) == (
        request.name,
        request.size,
        request.channels,
        source,
    ) and record.rule == rule


def _describe_rule(inspection: SourceInspection, channels: int) -> dict[str, str]:
    chosen = "all images"
    if inspection.names is not None:
        digest = hashlib.sha256("\n".join(inspection.names).encode(errors="surrogateescape")).hexdigest()
        chosen = f"training images by a list of {len(inspection.names)} names (sha256 of its lines {digest})"
    elif inspection.known is not None and inspection.known.share is not None:
        chosen = (
            f"{inspection.known.share:g} of the training images: shared among classes by largest remainder, in a class "
            "those with the smallest sha256 of the file name; not the list of SimCLR"
        )
    return {"chosen": chosen, "decoded": decoding.DECODE_RULES[channels], "resized": decoding.RESIZE_RULE}


@contextmanager
def _disk_errors_explained(folder: Path) -> Iterator[None]:
    """Errors of the file system, as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(
                f"{folder}: the disk is full ({error.strerror}); an earlier pack is unchanged; free space and run the "
                "same command again, which resumes from there, or choose another folder with --out"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ConfigError(f"{folder} cannot be written ({error.strerror}); choose another with --out") from error
        raise ConfigError(f"{error.filename or folder}: {error.strerror or error}") from error

"""`paribus data prepare`: a tree of images, compared with its manifest, becomes a pack (data/packs/write.py)."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.lock import locked
from paribus.data.packs.format import Record, default_folder, faults, read_names, read_record
from paribus.data.packs.write import Job, Packing, Said
from paribus.data.trees import decoding
from paribus.data.trees.archives import unpacked
from paribus.data.trees.manifest import FOLDER, Manifest, manifest
from paribus.data.trees.tree import SPLITS, Listing, find_tree, fingerprint, listing, selected, shortfalls


@dataclass(frozen=True)
class Wanted:
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

    @property
    def folder(self) -> Path:
        return self.out or default_folder(self.root, self.name, self.size)


@dataclass(frozen=True)
class Found:
    """A tree as it lies there. parts: the images of each split. partial: what it lacks. names: of a list, if any."""

    tree: Path
    known: Manifest | None
    parts: dict[str, Listing]
    partial: tuple[str, ...]
    names: tuple[str, ...] | None


def look(wanted: Wanted, said: Said) -> Found:
    """Find the tree (unpack or fetch it, where asked) and compare it with the manifest. Raises ConfigError."""
    known = None if wanted.name == FOLDER else manifest(wanted.name)
    names = read_names(wanted.names) if wanted.names else None
    if known is None and wanted.download:
        raise ConfigError("--download: there is nothing to fetch for a tree of your own")
    try:
        tree = find_tree(wanted.root, known)
    except ConfigError:
        if known is None or not unpacked(known, wanted.root, wanted.size, wanted.download, said.tell):
            raise
        tree = find_tree(wanted.root, known)
    missing = wanted.allow_missing
    parts = {s: selected(listing(tree, s, known, missing), known, names, missing) for s in SPLITS}
    partial = shortfalls(parts, known, names) if known else []
    for split, part in parts.items():
        said.tell(f"{tree / split}: {len(part.paths):,} images, {len(part.classes) - len(part.absent):,} classes")
        if part.ignored:
            said.tell(f"{tree / split}: {part.ignored:,} files are no images by their names and are not read")
    if partial and not missing:
        raise ConfigError(
            f"{tree} is not all of {wanted.name} ({'; '.join(partial)}); --allow-missing takes it as it is"
        )
    if partial:
        said.tell(f"a part of {wanted.name} only: {'; '.join(partial)}")
    return Found(tree, known, parts, tuple(partial), names)


def prepare(wanted: Wanted, said: Said) -> Record:
    """Make the pack, or go on with one begun, or find it there. Raises ConfigError, BadImage and RunFailed; the earlier
    pack stays until the new one is whole."""
    found = look(wanted, said)
    source, folder = fingerprint(found.parts.values()), wanted.folder
    _refuse_other_use(folder)
    with _telling_of_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            there = _sound(folder)
            if there and _same(there, wanted, found, source):
                said.tell(f"{folder} is packed already, from these files")
                return there
            job = Job(
                name=wanted.name,
                size=wanted.size,
                folder=folder,
                workers=wanted.workers,
                skip=wanted.skip,
                tree=found.tree,
                parts=found.parts,
                partial=found.partial,
                names=found.names,
                rule=_rule(found),
                source=source,
            )
            return Packing(job, said).run()


def _refuse_other_use(folder: Path) -> None:
    """A pack has a folder of its own: another's files would lie among its own."""
    with suppress(OSError):
        there = sorted(p.name for p in folder.iterdir())
        if there and not any(name in ("pack.json", "lock") or name.startswith("unfinished-") for name in there):
            raise ConfigError(
                f"{folder} holds other things ({there[0]}); a pack wants a folder of its own, with --out DIR"
            )


def _sound(folder: Path) -> Record | None:
    """The pack there, if its files are as they should be."""
    try:
        record = read_record(folder)
    except ConfigError:  # damaged, or another format: made anew
        return None
    return record if record is not None and not any(faults(folder, record, deep=False)) else None


def _same(record: Record, wanted: Wanted, found: Found, source: str) -> bool:
    rule = _rule(found)
    return (record.name, record.size, record.fingerprint) == (wanted.name, wanted.size, source) and record.rule == rule


def _rule(found: Found) -> dict[str, str]:
    chosen = "all images"
    if found.names is not None:
        digest = hashlib.sha256("\n".join(found.names).encode(errors="surrogateescape")).hexdigest()
        chosen = f"training images by a list of {len(found.names)} names (sha256 of its lines {digest})"
    elif found.known is not None and found.known.share is not None:
        chosen = (
            f"{found.known.share:g} of the training images: shared among classes by largest remainder, in a class "
            "those with the smallest sha256 of the file name; not the list of SimCLR"
        )
    return {"chosen": chosen, "decoded": decoding.RULE, "resized": decoding.PACKED}


@contextmanager
def _telling_of_disk(folder: Path) -> Iterator[None]:
    """What the file system refuses, as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(
                f"{folder}: the disk is full ({error.strerror}); an earlier pack is as it was; free space and run the "
                "same command again, which goes on from there, or choose another folder with --out"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ConfigError(f"{folder} cannot be written ({error.strerror}); choose another with --out") from error
        raise ConfigError(f"{error.filename or folder}: {error.strerror or error}") from error

"""What a folder of runs or data holds that can go without a result being lost (`paribus clean`). Needs no torch.

Of a run folder: checkpoints of a finished run besides the newest, and temporary files of a writer that was killed. Of a
pack's folder: files of an unfinished pack, and a whole pack that no version reads any more or whose source is gone.

Whatever is not known to be one of these stays, as does everything of a folder that a process holds. Links are neither
followed nor removed. Each folder is looked at again, under its lock, right before files in it are removed.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.core.lock import LOCK, find_holder, locked
from paribus.core.long_step import long_step
from paribus.data.packs.format import FORMAT_VERSION, RECORD_FILE, list_files, read_record
from paribus.data.trees.manifest import FOLDER, load_manifest
from paribus.data.trees.tree import find_tree

Kind = Literal["checkpoints", "temporary files", "unfinished pack", "unreadable pack", "pack without its source"]
NEEDS_ITS_OWN_FLAG: Kind = "pack without its source"  # cannot be made again

_CHECKPOINT = re.compile(r"step_\d+\.pt")
_NAMED = re.compile(r"([^/\s\"'=,\[]+)/checkpoints/(step_\d+\.pt)")
_OF_PACKS = re.compile(r"(train|val)-\w+\.(pixels|targets|ids|names)|unfinished-\w+\.jsonl")
_TEMPORARY_OF_PACKS = re.compile(r".+\.tmp-\d+")
_DIGEST = 32  # bytes of sha256 at the end of a checkpoint (engine/checkpoint.py)

Named = frozenset[tuple[str, str]]  # name of a run folder, name of a checkpoint in it


@dataclass(frozen=True)
class Leftover:
    """Files of one folder that can go, all of one kind. size: bytes."""

    kind: Kind
    folder: Path
    files: tuple[Path, ...]
    size: int


def find_leftovers(top: Path, others: Iterable[Path] = ()) -> Iterator[Leftover]:
    """What can go under a folder, at any depth. others: further files in which checkpoints may be named, such as
    study.yaml."""
    runs, packs = find_folders(top)
    named = find_named_checkpoints([*(run / runfolder.CONFIG for run in runs), *others])
    for run in runs:
        yield from inspect_run(run, named)
    for pack in packs:
        yield from inspect_pack(pack)


def find_folders(top: Path) -> tuple[list[Path], list[Path]]:
    """The run folders, and the folders of packs, at or below `top`; no links are followed."""
    runs: list[Path] = []
    packs: list[Path] = []
    for name, folders, files in os.walk(top, followlinks=False):
        if runfolder.CONFIG in files and runfolder.EVENTS in files:
            runs.append(Path(name))
        elif RECORD_FILE in files or any(file.startswith("unfinished-") for file in files):
            packs.append(Path(name))
        else:
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
            continue
        folders.clear()
    return runs, packs


def find_named_checkpoints(files: Iterable[Path]) -> Named:
    """The checkpoints of runs that these texts name, as starting weights or a teacher."""
    found: set[tuple[str, str]] = set()
    for file in files:
        with suppress(OSError):
            found.update(_NAMED.findall(file.read_text(errors="replace")))
    return frozenset(found)


def inspect_run(run: Path, named: Named = frozenset()) -> list[Leftover]:
    """What can go of a run folder that no process holds."""
    return [] if find_holder(run) else _inspect_free_run(run, named)


def _inspect_free_run(run: Path, named: Named) -> list[Leftover]:
    checkpoints = _find_old_checkpoints(run, named) if runfolder.read_state(run) == "DONE" else []
    temporary = [path for path in runfolder.find_temporary_files(run) if _is_own_file(path, run)]
    return [*_make("checkpoints", run, checkpoints), *_make("temporary files", run, temporary)]


def _find_old_checkpoints(run: Path, named: Named) -> list[Path]:
    """The checkpoints besides the one that `last` names, if that one is sound; else none, for they may be needed."""
    folder = run / runfolder.CHECKPOINTS
    try:
        last = (folder / "last").read_text().strip()
        paths = sorted(path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name))
    except (OSError, UnicodeDecodeError):
        return []
    kept = {last, *(name for owner, name in named if owner == run.name), *_find_exported(run)}
    newest = runfolder.newest_checkpoint_step(run)
    old = [
        path
        for path in paths
        if newest is not None and _step(path) < newest and path.name not in kept and _is_own_file(path, run)
    ]
    return old if old and _is_sound(folder / last) else []


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step_"))


def _find_exported(run: Path) -> set[str]:
    """The checkpoints that exports beside the record were made of."""
    found: set[str] = set()
    for path in run.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found.add(f"step_{json.loads(path.read_text())['run']['step']:08d}.pt")
    return found


def _is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint's content matches the checksum at its end."""
    try:
        with long_step(f"checksum of {checkpoint}"):
            raw = checkpoint.read_bytes()
    except OSError:
        return False
    return len(raw) > _DIGEST and hashlib.sha256(raw[:-_DIGEST]).digest() == raw[-_DIGEST:]


def inspect_pack(folder: Path) -> list[Leftover]:
    """What can go of a pack's folder that no process holds."""
    return [] if find_holder(folder) else _inspect_free_pack(folder)


def _inspect_free_pack(folder: Path) -> list[Leftover]:
    own = [p for p in sorted(folder.iterdir()) if _OF_PACKS.fullmatch(p.name) and _is_own_file(p, folder)]
    temporary = [p for p in folder.iterdir() if _TEMPORARY_OF_PACKS.fullmatch(p.name) and _is_own_file(p, folder)]
    path = folder / RECORD_FILE
    if not path.exists():
        return _make("unfinished pack", folder, [*own, *temporary])
    if path.is_symlink():
        return []
    if _is_of_earlier_format(path):
        return _make("unreadable pack", folder, [path, *own, *temporary])
    try:
        record = read_record(folder)
    except ConfigError:  # damaged, or of a later version
        return []
    if record is None:
        return []
    of_pack = list_files(record)
    found = _make("unfinished pack", folder, [*(p for p in own if p.name not in of_pack), *temporary])
    if _is_source_gone(folder, record.name, record.tree):
        found += _make(NEEDS_ITS_OWN_FLAG, folder, [path, *(p for p in own if p.name in of_pack)])
    return found


def _is_of_earlier_format(path: Path) -> bool:
    try:
        version = json.loads(path.read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return type(version) is int and version < FORMAT_VERSION


def _is_source_gone(folder: Path, name: str, tree: str) -> bool:
    """Whether the images of a pack are neither where they were nor beside the pack, as after a move of both."""
    try:
        if Path(tree).exists():
            return False
        find_tree(folder.absolute().parents[1], None if name == FOLDER else load_manifest(name))
    except ConfigError:
        return True
    except OSError:  # a folder above may not be searched
        return False
    return False


def _is_own_file(path: Path, top: Path) -> bool:
    """Whether a path is a plain file and neither it nor a folder between it and `top` is a link."""
    between = [p for p in path.parents if p != top and top in p.parents]
    return path.is_file() and not any(p.is_symlink() for p in (path, *between))


def _make(kind: Kind, folder: Path, files: Iterable[Path]) -> list[Leftover]:
    files = tuple(files)
    return [Leftover(kind, folder, files, sum(path.lstat().st_size for path in files))] if files else []


def remove(leftover: Leftover, named: Named = frozenset()) -> int:
    """Remove the files that still can go; returns their bytes. Raises ConfigError where a process holds the folder by
    now, and OSError."""
    freed = 0
    with locked(leftover.folder):
        is_pack = leftover.kind not in ("checkpoints", "temporary files")
        found = _inspect_free_pack(leftover.folder) if is_pack else _inspect_free_run(leftover.folder, named)
        still = {path for one in found if one.kind == leftover.kind for path in one.files}
        # pack.json first: without it nothing takes the rest for a pack
        for path in sorted(still & set(leftover.files), key=lambda path: path.name != RECORD_FILE):
            size = path.lstat().st_size
            path.unlink()
            freed += size
        if is_pack and {path.name for path in leftover.folder.iterdir()} <= {LOCK}:
            (leftover.folder / LOCK).unlink(missing_ok=True)
            leftover.folder.rmdir()
    return freed

"""Writes a pack chunk by chunk, with a journal.

Pixels are appended; a chunk counts once its line is in the journal and both are on the disk. A killed run is resumed
from there: first the chunks in the journal are read back and compared with their checksums. pack.json is replaced last,
in one rename, and only then are the earlier pack's files deleted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.core.formatting import format_bytes, format_list
from paribus.core.runfolder import fsync_folder, write_atomically
from paribus.data.packs.decode_pool import Chunk, DecodedChunk, decode_in_order
from paribus.data.packs.format import (
    FORMAT_VERSION,
    RECORD_FILE,
    PackRecord,
    SplitRecord,
    compute_pack_checksum,
    format_record,
    list_files,
    read_record,
)
from paribus.data.packs.journal import JournalLine, append_to_disk, format_journal_line, read_journal
from paribus.data.trees import decoding
from paribus.data.trees.decoding import BadImage
from paribus.data.trees.tree import SPLITS, Listing

_CHUNK_BYTES = 2**24  # what a kill may cost, what a worker holds, and what one fsync writes
_SPARE_BYTES = 2**20  # bytes besides the pixels that must fit, and a little more


@dataclass(frozen=True)
class PackJob:
    """What is to be packed. folder: of the pack, locked. skip: leave out images that do not decode. tree, parts: the
    source, and its images by split. partial, names, rule, source (a fingerprint): as in PackRecord. channels: of the
    pixels."""

    name: str
    size: int
    folder: Path
    workers: int
    skip: bool
    tree: Path
    parts: Mapping[str, Listing]
    partial: tuple[str, ...]
    names: tuple[str, ...] | None
    rule: dict[str, str]
    source: str
    channels: int = 3


@dataclass(frozen=True)
class ProgressSink:
    """Where progress is reported. log: takes a line. begin: takes the number of images and how many of them are done;
    returns a function that takes each number of further ones."""

    log: Callable[[str], None]
    begin: Callable[[int, int], Callable[[int], None]]


class PackWriter:
    """Writes one pack."""

    def __init__(self, job: PackJob, progress: ProgressSink) -> None:
        self._job, self._progress, self._folder = job, progress, job.folder
        self._image_bytes = job.size * job.size * job.channels
        self._chunk = max(1, min(256, _CHUNK_BYTES // self._image_bytes))
        self._versions = decoding.decoder_versions()
        plan = [FORMAT_VERSION, job.name, job.size, job.source, self._chunk, job.rule, self._versions]
        plan += [] if job.channels == 3 else [job.channels]  # so that an unfinished pack of an earlier paribus goes on
        self._plan = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
        self._journal = self._folder / f"unfinished-{self._plan}.jsonl"

    def run(self) -> PackRecord:
        self._clear(keep=self._files_to_keep(_read_earlier_record(self._folder)))
        lines = self._read_finished_chunks()
        total = sum(len(part.paths) for part in self._job.parts.values())
        done = sum(line.rows + len(line.skipped) for line in lines)
        self._check_space(total - done)
        self._truncate_to(lines)
        if done:
            self._progress.log(f"resuming after {done:,} of {total:,} images that were packed before")
        return self._finish(self._pack_chunks(lines, self._progress.begin(total, done)))

    def _file_name(self, split: str, kind: str) -> str:
        return f"{split}-{self._plan}.{kind}"

    def _files_to_keep(self, earlier: PackRecord | None) -> set[str]:
        """What must not be deleted: the earlier pack, and what this one has so far."""
        own = {self._file_name(split, kind) for split in SPLITS for kind in ("pixels", "targets", "ids", "names")}
        return {"lock", self._journal.name, *own, *(list_files(earlier) if earlier else ())}

    def _clear(self, keep: set[str]) -> None:
        """Delete files of unfinished packs of another source or other rules, and at the end those of the earlier
        pack."""
        for path in self._folder.iterdir():
            ours = path.suffix in (".pixels", ".targets", ".ids", ".names") or path.name.startswith("unfinished-")
            if ours and path.name not in keep:
                path.unlink()

    def _check_space(self, images: int) -> None:
        needed, free = images * (self._image_bytes + 16) + _SPARE_BYTES, shutil.disk_usage(self._folder).free
        self._progress.log(
            f"{self._folder}: {images:,} images of {self._job.size}×{self._job.size} need {format_bytes(needed)}"
        )
        if needed > free:
            raise ConfigError(
                f"{self._folder}: {images:,} images need {format_bytes(needed)}, {format_bytes(free)} are free there; "
                "choose another folder with --out, or a smaller --size"
            )

    def _read_finished_chunks(self) -> list[JournalLine]:
        """The chunks of the journal whose pixels on the disk match their checksums."""
        sound = list[JournalLine]()
        lengths: dict[str, int] = dict.fromkeys(SPLITS, 0)
        for line in read_journal(self._journal) if self._journal.exists() else ():
            path = self._folder / self._file_name(line.split, "pixels")
            if not path.is_file():
                break
            with open(path, "rb") as file:
                file.seek(lengths[line.split])
                if hashlib.sha256(file.read(line.rows * self._image_bytes)).hexdigest() != line.sha256:
                    break
            sound.append(line)
            lengths[line.split] += line.rows * self._image_bytes
        if not self._job.skip and (bad := next((line for line in sound if line.skipped), None)):
            raise BadImage(
                f"{self._job.tree}/{bad.skipped[0][1]}; --on-error skip leaves it out, as the run before did"
            )
        return sound

    def _truncate_to(self, lines: Sequence[JournalLine]) -> None:
        """Cut the journal and the files of pixels back to these chunks."""
        for split in SPLITS:
            with open(self._folder / self._file_name(split, "pixels"), "ab") as file:
                file.truncate(sum(line.rows for line in lines if line.split == split) * self._image_bytes)
        write_atomically(self._journal, "".join(format_journal_line(line) for line in lines))

    def _pack_chunks(self, lines: list[JournalLine], advance: Callable[[int], None]) -> dict[str, SplitRecord]:
        """Pack the chunks that are not in the journal yet, both splits in one pass, so that workers start once."""
        job, todo = self._job, list[tuple[str, Chunk]]()
        for split, part in job.parts.items():
            done = sum(line.split == split for line in lines)
            for start in range(done * self._chunk, len(part.paths), self._chunk):
                chosen = part.paths[start : start + self._chunk]
                todo.append((split, Chunk(str(job.tree), chosen, job.size, job.skip, job.channels)))
        with ExitStack() as stack:
            journal = stack.enter_context(open(self._journal, "ab"))
            files = {s: stack.enter_context(open(self._folder / self._file_name(s, "pixels"), "ab")) for s in SPLITS}
            for (split, chunk), made in zip(todo, self._decode_chunks([chunk for _, chunk in todo]), strict=True):
                line = JournalLine(
                    split, len(made.rows) // self._image_bytes, hashlib.sha256(made.rows).hexdigest(), made.skipped
                )
                append_to_disk(files[split], made.rows)
                append_to_disk(journal, format_journal_line(line).encode())
                lines.append(line)
                advance(len(chunk.paths))
        return {
            s: self._write_split_record(s, job.parts[s], [line for line in lines if line.split == s]) for s in SPLITS
        }

    def _decode_chunks(self, chunks: Sequence[Chunk]) -> Iterator[DecodedChunk]:
        try:
            yield from decode_in_order(chunks, self._job.workers)
        except BadImage as error:
            raise BadImage(
                f"{self._job.tree}/{error}; --on-error skip leaves such images out and lists them"
            ) from error

    def _write_split_record(self, split: str, part: Listing, lines: Sequence[JournalLine]) -> SplitRecord:
        gone = {k * self._chunk + i for k, line in enumerate(lines) for i, _ in line.skipped}
        ids = [i for i in range(len(part.paths)) if i not in gone]
        if not ids:
            raise ConfigError(f"{part.tree / split}: none of its {len(part.paths):,} images decodes")
        lost = set(part.targets) - {part.targets[i] for i in ids}
        if lost:
            names = format_list(part.classes[k] for k in sorted(lost))
            self._progress.log(f"warning: {part.tree / split}: every image was skipped of {names}")
        sums = {}
        for kind, numbers in (("ids", ids), ("targets", [part.targets[i] for i in ids])):
            content = b"".join(n.to_bytes(8, "little") for n in numbers)
            write_atomically(self._folder / self._file_name(split, kind), content)
            sums[kind] = hashlib.sha256(content).hexdigest()
        return SplitRecord(
            images=len(ids),
            listed=len(part.paths),
            pixels=self._file_name(split, "pixels"),
            targets=self._file_name(split, "targets"),
            ids=self._file_name(split, "ids"),
            chunk=self._chunk,
            rows=tuple(line.rows for line in lines),
            sha256=tuple(line.sha256 for line in lines),
            targets_sha256=sums["targets"],
            ids_sha256=sums["ids"],
            skipped=tuple(reason for line in lines for _, reason in line.skipped),
        )

    def _finish(self, splits: dict[str, SplitRecord]) -> PackRecord:
        job, names = self._job, None
        if job.names is not None:
            names = self._file_name("train", "names")
            write_atomically(self._folder / names, b"".join(os.fsencode(name) + b"\n" for name in job.names))
        classes = job.parts["train"].classes
        record = PackRecord(
            format=FORMAT_VERSION,
            name=job.name,
            size=job.size,
            classes=classes,
            splits=splits,
            rule=job.rule,
            versions=self._versions,
            tree=str(job.tree.absolute()),
            fingerprint=job.source,
            partial=job.partial,
            names=names,
            channels=job.channels,
            checksum=compute_pack_checksum(job.name, job.size, classes, splits, job.channels),
        )
        fsync_folder(self._folder)
        write_atomically(self._folder / RECORD_FILE, format_record(record))
        self._clear(keep=list_files(record))
        return record


def _read_earlier_record(folder: Path) -> PackRecord | None:
    try:
        return read_record(folder)
    except ConfigError:
        return None

"""Images decoded by several processes, handed back in order. Without torch, which would take seconds to start in each.

Plain pipes: a process whose parent was killed reads the end of its pipe and goes too.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from paribus.core.errors import RunFailed
from paribus.data.trees.decoding import BadImage, packed

_AHEAD = 2  # finished chunks a process that wait for an earlier one; each is up to 16 MiB


@dataclass(frozen=True)
class Chunk:
    """Images to be packed. paths: from the tree. skip: leave out those that do not decode, else raise BadImage."""

    tree: str
    paths: tuple[str, ...]
    size: int
    skip: bool


@dataclass(frozen=True)
class Pixels:
    """rows: uint8 pixels of the images that decoded, one after another. skipped: places in the chunk, and reasons."""

    rows: bytes
    skipped: tuple[tuple[int, str], ...]


def decoded_chunk(chunk: Chunk) -> Pixels:
    rows, skipped = list[bytes](), list[tuple[int, str]]()
    for i, path in enumerate(chunk.paths):
        try:
            rows.append(packed(os.path.join(chunk.tree, path), chunk.size, path).tobytes())
        except BadImage as error:
            if not chunk.skip:
                raise
            skipped.append((i, str(error)))
    return Pixels(b"".join(rows), tuple(skipped))


def in_order(chunks: Sequence[Chunk], workers: int) -> Iterator[Pixels]:
    """The chunks' pixels, in their order. Raises BadImage, of the first chunk that has one, and RunFailed where a
    process was ended from outside."""
    if workers <= 1 or len(chunks) <= 1:
        yield from map(decoded_chunk, chunks)
        return
    with_pipe = [_started() for _ in range(min(workers, len(chunks)))]
    try:
        yield from _gathered(chunks, [pipe for _, pipe in with_pipe])
    finally:
        for process, pipe in with_pipe:
            pipe.close()
            process.terminate()
        for process, _ in with_pipe:
            process.join()


def _gathered(chunks: Sequence[Chunk], pipes: list[Connection]) -> Iterator[Pixels]:
    idle, busy, done = list(pipes), dict[Connection, int](), dict[int, Pixels | BadImage]()
    sent = given = 0
    while given < len(chunks):
        while idle and sent < len(chunks) and sent - given < len(pipes) * _AHEAD:
            pipe = idle.pop()
            busy[pipe] = sent
            _send(pipe, chunks[sent])
            sent += 1
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection)
            done[busy.pop(pipe)] = _receive(pipe)
            idle.append(pipe)
        while given in done:
            found = done.pop(given)
            if isinstance(found, BadImage):
                raise found
            given += 1
            yield found


def _send(pipe: Connection, chunk: Chunk) -> None:
    with suppress(BrokenPipeError):  # told by the next _receive
        pipe.send(chunk)


def _receive(pipe: Connection) -> Pixels | BadImage:
    try:
        found = pipe.recv()
        return found if isinstance(found, BadImage) else Pixels(pipe.recv_bytes(), found)
    except (EOFError, OSError) as error:
        raise RunFailed(
            "a process that decodes images was ended from outside (out of memory?); the same command goes on from "
            "here; --workers 1 needs the least memory"
        ) from error


def _started() -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # fork would copy the lock's thread in whatever state it is
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told by the same Ctrl-C
    while True:
        try:
            chunk = pipe.recv()
        except EOFError:
            return
        try:
            made: Pixels | BadImage = decoded_chunk(chunk)
        except BadImage as error:
            made = error
        with suppress(OSError):  # the parent has gone; the next recv says so
            if isinstance(made, BadImage):
                pipe.send(made)
            else:
                pipe.send(made.skipped)
                pipe.send_bytes(made.rows)  # apart, since pickling would copy them

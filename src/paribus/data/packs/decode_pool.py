"""Decodes images in several processes, in order. Without torch, which would take seconds to import in each.

Plain pipes: a worker whose parent was killed reads the end of its pipe and exits too.
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
from paribus.data.trees.decoding import BadImage, decode_square

_MAX_WAITING_CHUNKS = 2  # finished chunks per worker that wait for an earlier one; each is up to 16 MiB


@dataclass(frozen=True)
class Chunk:
    """Images to pack. paths: relative to the tree. skip: leave out those that do not decode, else raise BadImage.
    channels: of the pixels."""

    tree: str
    paths: tuple[str, ...]
    size: int
    skip: bool
    channels: int = 3


@dataclass(frozen=True)
class DecodedChunk:
    """rows: uint8 pixels of the images that decoded, concatenated. skipped: positions in the chunk, and reasons."""

    rows: bytes
    skipped: tuple[tuple[int, str], ...]


def decode_chunk(chunk: Chunk) -> DecodedChunk:
    rows, skipped = list[bytes](), list[tuple[int, str]]()
    for i, path in enumerate(chunk.paths):
        try:
            rows.append(decode_square(os.path.join(chunk.tree, path), chunk.size, path, chunk.channels).tobytes())
        except BadImage as error:
            if not chunk.skip:
                raise
            skipped.append((i, str(error)))
    return DecodedChunk(b"".join(rows), tuple(skipped))


def decode_in_order(chunks: Sequence[Chunk], workers: int) -> Iterator[DecodedChunk]:
    """The chunks' pixels, in order. Raises BadImage of the first chunk that has one, RunFailed if a worker was
    killed."""
    if workers <= 1 or len(chunks) <= 1:
        yield from map(decode_chunk, chunks)
        return
    with_pipe = [_start_process() for _ in range(min(workers, len(chunks)))]
    try:
        yield from _gather(chunks, [pipe for _, pipe in with_pipe])
    finally:
        for process, pipe in with_pipe:
            pipe.close()
            process.terminate()
        for process, _ in with_pipe:
            process.join()


def _gather(chunks: Sequence[Chunk], pipes: list[Connection]) -> Iterator[DecodedChunk]:
    idle, busy, done = list(pipes), dict[Connection, int](), dict[int, DecodedChunk | BadImage]()
    sent = yielded = 0
    while yielded < len(chunks):
        while idle and sent < len(chunks) and sent - yielded < len(pipes) * _MAX_WAITING_CHUNKS:
            pipe = idle.pop()
            busy[pipe] = sent
            _send(pipe, chunks[sent])
            sent += 1
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection)
            done[busy.pop(pipe)] = _receive(pipe)
            idle.append(pipe)
        while yielded in done:
            result = done.pop(yielded)
            if isinstance(result, BadImage):
                raise result
            yielded += 1
            yield result


def _send(pipe: Connection, chunk: Chunk) -> None:
    with suppress(BrokenPipeError):  # the next _receive reports it
        pipe.send(chunk)


def _receive(pipe: Connection) -> DecodedChunk | BadImage:
    try:
        found = pipe.recv()
        return found if isinstance(found, BadImage) else DecodedChunk(pipe.recv_bytes(), found)
    except (EOFError, OSError) as error:
        raise RunFailed(
            "a worker that decodes images was killed (out of memory?); the same command resumes from "
            "here; --workers 1 needs the least memory"
        ) from error


def _start_process() -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # fork would copy the lock's thread in whatever state it is in
    parent_end, child_end = context.Pipe()
    process = context.Process(target=_run_worker, args=(child_end,), daemon=True)
    process.start()
    child_end.close()
    return process, parent_end


def _run_worker(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the same Ctrl-C reaches the parent, which ends this worker
    while True:
        try:
            chunk = pipe.recv()
        except EOFError:
            return
        try:
            result: DecodedChunk | BadImage = decode_chunk(chunk)
        except BadImage as error:
            result = error
        with suppress(OSError):  # the parent is gone; the next recv raises EOFError
            if isinstance(result, BadImage):
                pipe.send(result)
            else:
                pipe.send(result.skipped)
                pipe.send_bytes(result.rows)  # separately, since pickling would copy them

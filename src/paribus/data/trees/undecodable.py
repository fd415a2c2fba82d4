"""Which files of a tree do not decode: `paribus data check --deep`. Needs no torch."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from paribus.data.trees.decoding import BadImage, decode_image

_CHUNK = 64  # files a task


def find_undecodable(tree: Path, paths: Sequence[str], workers: int, advance: Callable[[int], None]) -> Iterator[str]:
    """Decode every file, and give a line for each that does not: its name and the reason, in the order of the paths.

    paths: relative to the tree. workers: threads; Pillow releases the GIL while it decodes. advance: takes how many
    more files are done.
    """

    def reasons(chunk: Sequence[str]) -> tuple[int, list[str]]:
        return len(chunk), [reason for path in chunk if (reason := _explain(tree, path))]

    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(workers) as pool:
        for n, found in pool.map(reasons, chunks):
            advance(n)
            yield from found


def _explain(tree: Path, path: str) -> str:
    try:
        decode_image(tree / path, path)
    except BadImage as error:
        return str(error)
    return ""

"""Image files that a user names, without classes: files, folders, or both. No torch, no decoding."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from paribus.core.errors import ConfigError
from paribus.data.trees.decoding import EXTENSIONS


def list_image_files(paths: Sequence[Path]) -> list[Path]:
    """The files in the order given; of a folder all images in it, at any depth, by path. Each once.

    A file that is named is taken whatever its extension; in a folder those of EXTENSIONS are, and names that begin with
    a dot are not. Raises ConfigError for what is not there, or a folder without an image.
    """
    found = dict[Path, None]()
    for path in paths:
        if path.is_dir():
            inside = list(_walk(path, ()))
            if not inside:
                raise ConfigError(f"{path}: no images in it ({', '.join(EXTENSIONS)})")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            raise ConfigError(f"{path}: no file or folder there")
    return list(found)


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """above: the real paths of the folders above, in which a circular link would end up again."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*above, here))
        elif entry.name.lower().endswith(EXTENSIONS):
            yield folder / entry.name

"""Files whose content decides a result: starting weights, a teacher, a map of labels. Needs no torch.

A config class declares one with a second field beside the path:

    labels: str | None = None
    labels_sha256: Checksum = None  # of the file that `labels` names

When a recipe is composed the checksum is filled in from the file (recipe/files.py) and becomes part of the run's id in
the place of the path: the same bytes elsewhere are the same run, other bytes under the same name another one. Written
by hand it demands that file. The class reads the file with `read_checked`, so that what trains is what was hashed.

Where the file is not simply what the field says, a method `find_NAME` returns its path; where its bytes hold more than
decides the result (clocks in a checkpoint), a method `hash_NAME(path)` returns the checksum. Two further capabilities:
`Completed`, of a class that takes more than weights from its file, and `StartsFromFile` (core/protocols.py), of a model
that a checkpoint can restore without the file.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, cast, runtime_checkable

from pydantic import Field

from paribus.core.errors import ConfigError
from paribus.core.long_step import long_step

SUFFIX = "_sha256"
Checksum = Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]
T = TypeVar("T")


@runtime_checkable
class Completed(Protocol):
    """Capability of a config object: a copy with everything else written out that its file decides, such as the
    network's description. It is called before the checksum is filled in."""

    def completed(self) -> Any: ...


@dataclass(frozen=True)
class ContentFile:
    """owner: the config object, at the dotted path `where` of the config. name: of its field. checksum: as filled in,
    None where it is not yet."""

    owner: Any
    where: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.where}.{self.name}" if self.where else self.name

    @property
    def checksum(self) -> str | None:
        return getattr(self.owner, self.name + SUFFIX)

    def find(self) -> Path:
        """Raises ConfigError where the owner cannot tell, such as weights that cannot be downloaded."""
        finder = getattr(self.owner, f"find_{self.name}", None)
        return finder() if finder else Path(getattr(self.owner, self.name)).expanduser()

    def hash(self, path: Path) -> str:
        """Raises OSError, and ConfigError from the owner's own method."""
        hasher = getattr(self.owner, f"hash_{self.name}", None)
        return hasher(path) if hasher else hash_file(path)


def iterate_files(thing: Any, where: str = "") -> Iterator[ContentFile]:
    """The files that a config object, and those in it, name by content."""
    if is_dataclass(thing) and not isinstance(thing, type):
        names = [field.name for field in dataclasses.fields(thing)]
        for name in names:
            yield from iterate_files(getattr(thing, name), _join(where, name))
        for name in (n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX)):
            # a property `find_NAME` may be None, where there is no file to find
            if getattr(thing, f"find_{name}", None) is not None or getattr(thing, name, None) is not None:
                yield ContentFile(thing, where, name)
    elif isinstance(thing, Mapping):
        for key, value in cast(Mapping[str, Any], thing).items():
            yield from iterate_files(value, _join(where, key))
    elif isinstance(thing, list | tuple):
        for i, item in enumerate(cast(list[Any], thing)):
            yield from iterate_files(item, _join(where, str(i)))


def replace_objects(thing: T, change: Callable[[Any, str], Any], where: str = "") -> T:
    """A copy of a config object in which each object, those inside first, is what `change(object, its dotted path)`
    gives; the object itself where nothing changes."""
    found: Any = thing
    if is_dataclass(thing) and not isinstance(thing, type):
        values = {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing) if f.init}
        new = {name: replace_objects(value, change, _join(where, name)) for name, value in values.items()}
        changed = {name: value for name, value in new.items() if value is not values[name]}
        return change(dataclasses.replace(thing, **changed) if changed else thing, where)
    if isinstance(thing, Mapping):
        old = cast(Mapping[str, Any], thing)
        items = {key: replace_objects(value, change, _join(where, key)) for key, value in old.items()}
        found = items if any(items[key] is not old[key] for key in old) else thing
    elif isinstance(thing, list | tuple):
        parts = [replace_objects(item, change, _join(where, str(i))) for i, item in enumerate(cast(list[Any], thing))]
        found = tuple(parts) if any(a is not b for a, b in zip(parts, cast(list[Any], thing), strict=True)) else thing
    return found


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, at about a second a gigabyte. Raises OSError."""
    with open(path, "rb") as file, long_step(f"checksum of {path}"):
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checked(path: Path, checksum: str | None) -> bytes:
    """A file's bytes. Raises OSError, and ConfigError if they are not those of the checksum."""
    content = path.read_bytes()
    check_checksum(path, hashlib.sha256(content).hexdigest(), checksum)
    return content


def check_checksum(path: Path, found: str, checksum: str | None) -> None:
    """Raises ConfigError if a file is not the one with this checksum; None takes any."""
    if checksum is not None and found != checksum:
        raise ConfigError(
            f"{path} has the sha256 {found}, and the recipe demands {checksum}; put that file back, or leave the "
            "checksum out for a run of this one"
        )


def drop_hashed_paths(node: Any) -> Any:
    """A copy of plain config data without the paths of files that are known by their checksum.

    >>> drop_hashed_paths({"path": "a.pt", "path_sha256": "0" * 64}).keys()
    dict_keys(['path_sha256'])
    >>> drop_hashed_paths({"path": "a.pt", "path_sha256": None})
    {'path': 'a.pt', 'path_sha256': None}
    """
    if isinstance(node, list | tuple):
        return [drop_hashed_paths(item) for item in cast(list[Any], node)]
    if not isinstance(node, Mapping):
        return node
    known = cast(Mapping[str, Any], node)
    return {k: drop_hashed_paths(v) for k, v in known.items() if not isinstance(known.get(f"{k}{SUFFIX}"), str)}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key

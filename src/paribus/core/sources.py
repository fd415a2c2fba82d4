"""Digests of source code: they distinguish two versions of a package where there is no git. Needs no torch."""

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


def hash_folder(root: Path) -> str:
    """16 hex digits over the names and contents of all *.py below a folder."""
    return _hash(root, root.rglob("*.py"))


def hash_package(name: str) -> str | None:
    """The digest of a package's folder, or of a module's file, without importing it; None if it has neither. What it
    imports from elsewhere is not in it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        folders = [Path(folder) for folder in spec.submodule_search_locations]
        digests = [hash_folder(folder) for folder in folders]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    if spec.origin is None or not Path(spec.origin).is_file():
        return None
    return _hash(Path(spec.origin).parent, [Path(spec.origin)])


def _hash(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]

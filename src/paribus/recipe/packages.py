"""The user's own packages, packages=[mine]: whether each can be imported, and is the one that is meant.

The command line has the current folder at the end of Python's path (cli/main.py), after all that is installed, so that
no file there hides a module of Python's or of torch's.
"""

import importlib.util
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError


def check_packages(packages: Any) -> tuple[str, ...]:
    """The names of packages that a config gives. Raises ConfigError for one that is not found, or that an installed one
    hides. One on PYTHONPATH was put before the current folder on purpose."""
    if not isinstance(packages, list | tuple) or not all(isinstance(p, str) for p in packages):
        raise ConfigError(f"packages: found {packages!r}; should be a list of package names")
    for package in packages:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
        if found is None:
            raise ConfigError(
                f"packages: found {package}; no Python package of that name can be imported: paribus looks in the "
                f"current folder, {Path.cwd()}, in those of PYTHONPATH=DIR, and among what is installed "
                "(pip install -e DIR)"
            )
        here = [p for p in (Path(f"{package}.py"), Path(package) / "__init__.py") if p.is_file()]
        if here and _is_installed(found) and not _lies_at(found, here[0]):
            raise ConfigError(
                f"packages: found {package}, which Python imports from {found.origin or 'elsewhere'}, and not "
                f"{here[0]} of the current folder; give yours another name, or put the folder first with PYTHONPATH=."
            )
    return tuple(packages)


def _is_installed(found: ModuleSpec) -> bool:
    """Of Python itself, or in site-packages."""
    if found.origin is None or not Path(found.origin).is_absolute():  # built in, or a folder without code
        return True
    path = Path(found.origin)
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(Path(os.__file__).parent)


def _lies_at(found: ModuleSpec, path: Path) -> bool:
    return found.origin is not None and Path(found.origin).resolve() == path.resolve()

"""Deprecated names, importable for one more release, each with a warning that gives the new name."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def old_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that finds old names (old -> new) and warns; any other name is an AttributeError.

    Assigned under `if not TYPE_CHECKING`, since a type checker that sees it would accept any name.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is now called {names[name]}; the old name is removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        home, _, new = names[name].rpartition(".")  # a dotted new name: it has moved to another module as well
        return getattr(importlib.import_module(home or module), new)

    return find

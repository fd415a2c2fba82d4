"""constraints.txt: the version of every package that `.[dev]` needs, as installed in this environment.

python scripts/constraints.py            write it; first install `.[dev]` without --constraint, for the newest versions
python scripts/constraints.py --check    change nothing; say what differs, and exit with 1 if anything does

What is needed is read from pyproject.toml and the metadata of what is installed, for Linux on Python 3.11 and 3.12.
"""

import argparse
import importlib.metadata
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
HEAD = (
    "# What CI runs with; scripts/environment.sh gives it to pip as --constraint. Written by scripts/constraints.py\n"
)
PYTHONS = (
    {"python_version": "3.11", "python_full_version": "3.11.0"},
    {"python_version": "3.12", "python_full_version": "3.12.0"},
)
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


class Package(NamedTuple):
    """requires: requirements as metadata has them, with markers of extras. python: which Pythons it is for."""

    version: str
    requires: tuple[str, ...]
    python: str = ""


class Closure(NamedTuple):
    """pins: canonical name -> version of what is needed and installed. missing: names that are needed and are not."""

    pins: dict[str, str]
    missing: set[str]


class Differences(NamedTuple):
    """unneeded: pinned, but not needed. unpinned: needed, but not pinned. versions: name -> (pinned, installed)."""

    unneeded: list[str]
    unpinned: list[str]
    versions: dict[str, tuple[str, str]]


def read_project(path: Path) -> Package:
    """A pyproject.toml as if it were installed; metadata of an editable installation may be older than the file."""
    project = tomllib.loads(path.read_text())["project"]
    extras: Mapping[str, list[str]] = project["optional-dependencies"]
    optional = [_with_extra(line, name) for name, lines in extras.items() for line in lines]
    return Package("", (*project["dependencies"], *optional))


def _with_extra(line: str, extra: str) -> str:
    """As metadata says that an extra needs this."""
    requirement = Requirement(line)
    own, requirement.marker = requirement.marker, None
    return f"{requirement}; ({own}) and extra == '{extra}'" if own else f"{requirement}; extra == '{extra}'"


def read_installed(name: str) -> Package | None:
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Package(found.version, tuple(found.requires or ()), found.metadata.get("Requires-Python") or "")


def find_unfit(pins: Iterable[str], read: Callable[[str], Package | None]) -> dict[str, str]:
    """Name -> the Pythons it is for, of those that the first of PYTHONS is not among: a pin taken on Python 3.11.7 may
    want 3.11.5, and pip would find nothing on 3.11.2."""
    oldest = PYTHONS[0]["python_full_version"]
    wanted = {name: package.python for name in pins if (package := read(name)) is not None}
    return {name: python for name, python in wanted.items() if not SpecifierSet(python).contains(oldest)}


def find_closure(requirement: str, project: Package, read: Callable[[str], Package | None]) -> Closure:
    """What this requirement of the project (`paribus[dev]`) needs, and all that needs in turn, without the project."""
    root = Requirement(requirement)
    closure, todo, seen = Closure({}, set()), [root], set[tuple[str, frozenset[str]]]()
    while todo:
        each = todo.pop()
        name, extras = canonicalize_name(each.name), frozenset(each.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        package = project if name == canonicalize_name(root.name) else read(name)
        if package is None:
            closure.missing.add(name)
            continue
        if package is not project:
            closure.pins[name] = package.version
        todo += [r for r in map(Requirement, package.requires) if _is_needed(r, extras)]
    return closure


def _is_needed(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether its marker holds on Linux, in one of the Pythons, with one of the extras or without any."""
    marker = requirement.marker
    cases = ({**LINUX, **python, "extra": extra} for python in PYTHONS for extra in ("", *extras))
    return marker is None or any(marker.evaluate(case) for case in cases)


def read_pins(text: str) -> dict[str, str]:
    """Raises ValueError at a line that is not NAME==VERSION, in order, with nothing said twice."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = dict[str, str]()
    for line in lines:
        name, equals, version = line.partition("==")
        if not equals or not version or name != canonicalize_name(name) or " " in line:
            raise ValueError(f"expected NAME==VERSION with the name in lower case, found {line!r}")
        if pins and name <= next(reversed(pins)):
            raise ValueError(f"{name} stands after {next(reversed(pins))}")
        pins[name] = version
    return pins


def format_pins(pins: Mapping[str, str]) -> str:
    return HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def compare(pins: Mapping[str, str], needed: Mapping[str, str]) -> Differences:
    return Differences(
        sorted(set(pins) - set(needed)),
        sorted(set(needed) - set(pins)),
        {name: (pins[name], needed[name]) for name in sorted(set(pins) & set(needed)) if pins[name] != needed[name]},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    closure = find_closure("paribus[dev]", read_project(ROOT / "pyproject.toml"), read_installed)
    if closure.missing:
        print(f"not installed here: {', '.join(sorted(closure.missing))}; pip install -e '.[dev]'", file=sys.stderr)
        return 2
    for name, python in find_unfit(closure.pins, read_installed).items():
        print(f"{name} {closure.pins[name]} is for Python {python}; install an earlier one", file=sys.stderr)
        return 2
    if not check:
        FILE.write_text(format_pins(closure.pins))
        return 0
    found = compare(read_pins(FILE.read_text()), closure.pins)
    lines = [f"not needed: {name}" for name in found.unneeded] + [f"not pinned: {name}" for name in found.unpinned]
    lines += [f"pinned is {name} {pinned}, installed {here}" for name, (pinned, here) in found.versions.items()]
    print("\n".join(lines) or f"{FILE.name} is what is needed and installed")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())

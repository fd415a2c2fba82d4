"""Checksums of the files that a recipe names (core/content.py): filled in when it is composed, before any data is read.

A run that has begun needs its start file no more. Where the file is gone, its checksum is taken from the config.yaml of
the run that this recipe would resume.
"""

import glob
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from paribus.core import runfolder
from paribus.core.build import build
from paribus.core.content import (
    SUFFIX,
    Completed,
    ContentFile,
    check_checksum,
    iterate_files,
    replace_objects,
)
from paribus.core.errors import ConfigError
from paribus.recipe.identity import computed_part, hash_recipe
from paribus.recipe.overlays import get_value

R = TypeVar("R")  # a recipe, whose own module imports this one


def fill_checksums(recipe: R, known: dict[Path, str] | None = None) -> R:
    """The recipe with the checksum of every file it names. known: of files hashed before, which is added to.

    A file that no run starts from, and whose checksum is given, need not be there yet: a study can be planned before
    its label maps are made. Raises ConfigError if a file is not the one whose checksum is given, or is not there and no
    run begun with it is.
    """
    filled, missing = _fill(recipe, {} if known is None else known)
    return _fill_from_begun_run(filled, missing) if missing else filled


def fill_evaluators(recipe: R) -> R:
    """The recipe of a recorded config with the checksums of files that its evaluators name, where they were chosen
    since. Raises ConfigError if a file is not there, or not the one whose checksum is given."""
    found: Any = recipe
    filled, missing = _fill(found.evaluators, {}, "evaluators")
    if missing:
        raise ConfigError(next(iter(missing.values())))
    return found if filled is found.evaluators else replace(found, evaluators=filled)


def _fill(thing: R, known: dict[Path, str], top: str = "") -> tuple[R, dict[str, str]]:
    """A config object with checksums, and path of the object -> what is not there. top: where it stands."""
    thing = replace_objects(thing, _complete, top)
    missing: dict[str, str] = {}
    checksums: dict[str, dict[str, str]] = {}  # path of the object -> field -> checksum
    for file in iterate_files(thing, top):
        try:
            path = file.find()
            known[path] = known.get(path) or file.hash(path)
        except FileNotFoundError as error:
            if file.checksum is not None and not _is_start(file):  # the id is known; who reads the file will miss it
                continue
            missing[file.where] = f"{file.key}: {error.filename}: {error.strerror}{_explain_need(file)}"
        except OSError as error:
            raise ConfigError(f"{file.key}: {error.filename}: {error.strerror}") from error
        except ConfigError as error:  # weights that cannot be fetched
            missing[file.where] = f"{file.where or file.key}: {error}"
        else:
            _check(file, path, known[path])
            checksums.setdefault(file.where, {})[file.name + SUFFIX] = known[path]
    filled = replace_objects(
        thing, lambda part, where: replace(part, **checksums[where]) if where in checksums else part, top
    )
    return filled, missing


def _explain_need(file: ContentFile) -> str:
    is_measured = file.where.startswith("evaluators.")
    return "; it is needed to measure with" if is_measured else "; a run cannot start without it"


def _complete(thing: Any, where: str) -> Any:
    try:
        return thing.completed() if isinstance(thing, Completed) else thing
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def missing_files(thing: Any, where: str) -> dict[str, str]:
    """The files named by a config object that are not there: key -> path, or why it is not known."""
    return _find_missing(iterate_files(thing, where))


def missing_start_files(recipe: Any) -> dict[str, str]:
    """The same for the files that a recipe's run starts from: of its model, and `init_from`. Not those of a teacher,
    which every step needs."""
    return _find_missing(file for file in iterate_files(recipe) if _is_start(file))


def _is_start(file: ContentFile) -> bool:
    return file.where.split(".")[0] in ("", "model")


def _find_missing(files: Iterable[ContentFile]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        try:
            path = file.find()
        except ConfigError as error:
            found[file.key] = str(error)
            continue
        if not path.exists():
            found[file.key] = str(path)
    return found


def _check(file: ContentFile, path: Path, checksum: str) -> None:
    try:
        check_checksum(path, checksum, file.checksum)
    except ConfigError as error:
        raise ConfigError(f"{file.key}: {error}") from error


def _fill_from_begun_run(recipe: Any, missing: dict[str, str]) -> Any:
    """The recipe with what the config.yaml of a run says of the missing files, if it is then that run's recipe.
    missing: path of the object -> what is not there."""
    found: dict[str, Any] = {}
    for folder in sorted(recipe.folder.parent.glob(f"{glob.escape(recipe.title)}-*/")):
        try:
            config = runfolder.read_config(folder)
            recorded_id = hash_recipe(computed_part(config))
            candidate = _take_from(config, recipe, missing)
        except (ConfigError, KeyError, AttributeError):  # of no run, or of one that cannot be made today
            continue
        if candidate.id == recorded_id and all(file.checksum for file in iterate_files(candidate)):
            found[recorded_id] = candidate
    if len(found) == 1:
        return next(iter(found.values()))
    why = next(iter(missing.values()))
    if not found:
        raise ConfigError(why)
    raise ConfigError(f"{why}; {len(found)} runs began with such a file ({', '.join(found)}); put the right one back")


def _take_from(config: Mapping[str, Any], recipe: Any, places: Iterable[str]) -> Any:
    """The recipe with the objects of a recorded config at these dotted paths, where they say the same and more."""
    recorded = {
        where: build(node, where, recipe.packages)
        for where in places
        if where and isinstance(node := get_value(config, where), dict)
    }

    def take(thing: Any, where: str) -> Any:
        return recorded[where] if where in recorded and _adds_to(thing, recorded[where]) else thing

    taken = replace_objects(recipe, take)
    if "" in places and recipe.init_from == config.get("init_from"):  # a file of the recipe itself
        return replace(taken, init_from_sha256=config.get("init_from_sha256"))
    return taken


def _adds_to(thing: Any, recorded: Any) -> bool:
    """Whether a recorded object says the same as this one, and more."""
    if type(thing) is not type(recorded):
        return False
    pairs = [(getattr(thing, field.name), getattr(recorded, field.name)) for field in fields(thing)]
    return all(now is None or now == then for now, then in pairs)

"""Config keys with what their classes say of them: of a composed config, of the options of a group. Needs no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from paribus.core.errors import ConfigError
from paribus.recipe.key_docs import ClassDoc, KeyDoc, first_sentence, read_class
from paribus.recipe.overlays import get_value, with_value

RECIPE = "paribus.recipe.recipe.Recipe"
_AUGMENTATIONS = ("paribus.data.colour.ColorJitter", "paribus.data.randaugment.RandAugment")


@dataclass(frozen=True)
class DescribedKey:
    """path: dotted. value: as configured, or the class's default. is_new: the config does not write it, so an override
    adds it with +. doc: None for a key of the user's own, such as an argument in model.args."""

    path: str
    value: Any
    is_new: bool
    doc: KeyDoc | None


@dataclass(frozen=True)
class Option:
    """A file of a config group. content: with what its `defaults` take from others of the group."""

    name: str
    headline: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What is said of a group in one place: the keys of its options of one class. title: as it is chosen on the command
    line. options: their names. base: the one whose values the keys have."""

    title: str
    options: tuple[str, ...]
    base: str
    summary: str
    keys: tuple[DescribedKey, ...]


def describe_keys(config: Mapping[str, Any]) -> list[DescribedKey]:
    """Every key of a composed config, in its order, each group's together."""
    recipe = read_class(RECIPE)
    assert recipe is not None, "our own source"
    keys = {key: value for key, value in config.items() if key != "overlays"}
    return [found for key, value in keys.items() for found in _describe(key, value, recipe.key(key), recipe)]


def _describe(path: str, value: Any, doc: KeyDoc | None, owner: ClassDoc | None) -> Iterator[DescribedKey]:
    name = path.rpartition(".")[2]
    target = value.get("_target_") if isinstance(value, Mapping) else None
    if target is None and owner is not None:
        target = owner.classes.get(name)
    cls = read_class(target) if isinstance(target, str) else None
    if not isinstance(value, Mapping) or (not value and cls is None):
        yield DescribedKey(path, value, False, doc)
        return
    for key, inner in value.items():
        if key == "_target_":
            continue
        inner_doc = cls.key(key) if cls is not None else None
        if cls is None and doc is not None and not isinstance(inner, Mapping):
            inner_doc = doc  # an item of model.args or the like
        yield from _describe(f"{path}.{key}", inner, inner_doc, cls)
    for key in cls.keys if cls is not None else ():
        if key.name not in value:
            yield DescribedKey(f"{path}.{key.name}", key.default, True, key)


def apply_swaps(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the classes that its techniques put in the place of others, where they fit."""
    for rule in (config.get("overlays") or {}).values():
        for path, swaps in ((rule or {}).get("swap") or {}).items():
            if (found := get_value(config, path)) in swaps:
                config = with_value(config, path, swaps[found])
    return config


def list_options(folders: Sequence[Path], group: str) -> list[Option]:
    """The files of a group in these folders of configs, a later folder's before an earlier one's of the same name.
    Raises ConfigError for one that is not YAML."""
    paths = {path.stem: path for folder in folders for path in sorted((folder / group).glob("*.yaml"))}
    return [Option(name, _headline(paths[name]), _load(paths, name)) for name in sorted(paths)]


def _headline(path: Path) -> str:
    comments = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((text for text in comments if not text.startswith("@package")), "")


def _load(paths: Mapping[str, Path], name: str, depth: int = 9) -> dict[str, Any]:
    try:
        content = yaml.safe_load(paths[name].read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{paths[name]}: {error}") from error
    bases = [base for base in content.get("defaults") or () if isinstance(base, str) and base in paths and depth]
    merged: dict[str, Any] = {}
    for base in bases:
        merged |= _load(paths, base, depth - 1)
    return merged | {key: value for key, value in content.items() if key != "defaults"}


def describe_option(group: str, content: Mapping[str, Any]) -> list[DescribedKey]:
    """The keys of an option. Those of a technique lie anywhere in the config, and only those that it sets are given."""
    if group != "technique":
        return list(_describe(group, dict(content), None, None))
    rules = [rule or {} for rule in (content.get("overlays") or {}).values()]
    expected = [(path, new) for rule in rules for path, new in (rule.get("expect") or {}).items()]
    swapped = [(path, new) for rule in rules for path, to in (rule.get("swap") or {}).items() for new in to.values()]
    classes = {path.removesuffix("._target_"): new for path, new in (*expected, *swapped) if path.endswith("._target_")}
    found: list[DescribedKey] = []
    for key, value in content.items():
        if key == "overlays" or not isinstance(value, Mapping):
            continue
        node: Mapping[str, Any] = {key: value}
        for path, new in classes.items():
            if isinstance(get_value(node, path), Mapping):
                node = with_value(node, f"{path}._target_", new)
        found += [one for one in _describe(key, node[key], None, None) if not one.is_new]
    return found


def find_class(content: Mapping[str, Any]) -> ClassDoc | None:
    target = content.get("_target_")
    return read_class(target) if isinstance(target, str) else None


def describe_headline(option: Option) -> str:
    """Its file's first comment, or else what its class says first."""
    doc = None if option.headline else find_class(option.content)
    return option.headline or (first_sentence(doc.summary) if doc is not None else "")


def describe_group(group: str, options: Sequence[Option]) -> list[Part]:
    """The options of a group with their keys, those of one class together, and what else may stand in the group."""
    shown: dict[str, list[str]] = {}  # class -> the options that are of it; the first one's values are given
    for option in options:
        cls = option.content.get("_target_") if group != "technique" else option.name
        shown.setdefault(str(cls or option.name), []).append(option.name)
    by_name = {option.name: option for option in options}
    parts: list[Part] = []
    for names in shown.values():
        base = min(names, key=lambda name: (len(name), name)) if len(names) > 1 else names[0]
        keys = tuple(describe_option(group, by_name[base].content))
        doc = find_class(by_name[base].content)
        title = f"{group}={'|'.join(sorted(names))}"
        parts.append(Part(title, tuple(sorted(names)), base, doc.summary if doc is not None else "", keys))
    return [*parts, *(_describe_augmentation(target) for target in _AUGMENTATIONS if group == "data")]


def _describe_augmentation(target: str) -> Part:
    doc = read_class(target)
    assert doc is not None, "our own source"
    keys = tuple(DescribedKey(f"data.augment.NAME.{key.name}", key.default, True, key) for key in doc.keys)
    return Part(f"+data.augment.NAME._target_={target}", (), "", doc.summary, keys)

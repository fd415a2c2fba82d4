"""Overlays are checked: each requested technique fits the recipe and is in effect, or the run is refused.

A file in configs/technique/ adds its settings to the config, and declares under `overlays.NAME` what must result:

    swap:    {optimizer._target_: {OLD: NEW}}    the value at this path must be OLD, and becomes NEW
    expect:  {transforms.x._target_: CLASS}      the value at this path, once everything is composed
    alone:   {transforms: [CLASS, ...]}          no entry of this mapping may be of these classes, unless an overlay put
             it there: two mixing transforms, one of them requested, would be compared with a baseline that has one
    first:   [transforms.x, ...]                 these entries come before all others of their mapping, however the
             techniques are ordered: what gives targets before what mixes them
    fits:    one sentence on what it fits, for the refusal
    packages: the Python packages that its classes come from, as in packages=[...], which then need not be given
    sets:    the keys that the file sets, which `paribus train` fills in and a run records for `paribus compare`
    check:   settings for the conformance battery, kept here because a third party's battery needs them too:
             neutral: settings with which it does nothing at all, so that the run must be bit-exact with the baseline
             small:   settings that suit the tiny images of the smoke recipes
             files:   key -> config of a class that is called with the recipe's data (DataSets) and gives the bytes of a
                      file, which is written for the check and named there
             (up to 0.1 these two were keys beside `expect`; there they are still read)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from paribus.core.build import instantiate, resolve, schema
from paribus.core.errors import ConfigError
from paribus.core.formatting import format_list

BASELINE = "baseline"


@schema
class OverlayCheck:
    """Settings for the conformance battery, dotted key -> value."""

    neutral: dict[str, Any] = Field(default_factory=dict)
    small: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, Any] = Field(default_factory=dict)


@schema
class Overlay:
    """The rules of one technique, as above."""

    swap: dict[str, dict[str, str]] = Field(default_factory=dict)
    expect: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    alone: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    first: tuple[str, ...] = ()
    fits: str = ""
    packages: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    check: OverlayCheck = Field(default_factory=OverlayCheck)


def apply_overlays(cfg: dict[str, Any], technique_names: list[str]) -> dict[str, Any]:
    """The config with every swap applied and the rules replaced by `techniques`, the names in effect. Raises
    ConfigError."""
    rules = {name: overlay_rule(name, rule) for name, rule in _check_mapping("overlays", cfg.get("overlays")).items()}
    cfg = {key: value for key, value in cfg.items() if key != "overlays"}
    names = [name for name in technique_names if name != BASELINE]
    for name in names:
        if name not in rules:
            raise ConfigError(
                f"technique={name}: its file technique/{name}.yaml has no overlays.{name} that says what it changes"
            )
    put: dict[str, str] = {}  # by which technique's swap a place was filled
    for name, rule in rules.items():
        for path, swaps in rule.swap.items():
            found = get_value(cfg, path)
            if not isinstance(found, str) or found not in swaps:
                _refuse(name, path, found, list(swaps), rule, put.get(path, ""))
            cfg, put[path] = with_value(cfg, path, swaps[found]), name
    for name, rule in rules.items():
        for path, wanted in rule.expect.items():
            found = get_value(cfg, path)
            allowed = [wanted] if isinstance(wanted, str) else list(wanted)
            if found not in allowed:
                _refuse(name, path, found, allowed, rule, put.get(path, ""))
    _check_alone(cfg, rules)
    for path in (path for rule in rules.values() for path in rule.first):
        cfg = _with_first(cfg, path)
    own = [package for rule in rules.values() for package in rule.packages]
    if own and isinstance(given := cfg.get("packages") or [], list | tuple):
        cfg = {**cfg, "packages": list(dict.fromkeys([*given, *own]))}
    return {**cfg, "techniques": list(rules)}


def _with_first(cfg: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy in which the entry at this dotted path comes before the others of its mapping."""
    parent, _, name = path.rpartition(".")
    node = _check_mapping(parent, get_value(cfg, parent))
    return with_value(cfg, parent, {name: node[name], **node}) if name in node else cfg


def _check_alone(cfg: Mapping[str, Any], rules: Mapping[str, Overlay]) -> None:
    overlay_paths = {path.removesuffix("._target_") for rule in rules.values() for path in rule.expect}
    for name, rule in rules.items():
        for path, classes in rule.alone.items():
            for key in _check_mapping(path, get_value(cfg, path)):
                if (
                    f"{path}.{key}" not in overlay_paths
                    and (found := get_value(cfg, f"{path}.{key}._target_")) in classes
                ):
                    raise ConfigError(
                        f"technique={name} does not fit this recipe: its {path}.{key} is {found} already, and "
                        f"both would be applied; {path}.{key}=null removes the recipe's own"
                    )


def explain_unnamed_key(cfg: Mapping[str, Any], key: str, value: str = "") -> str:
    """How to set a key that the config does not name, if the class that an overlay puts there has it; else ""."""
    path, _, name = key.rpartition(".")
    for technique, at, _, cls in _iterate_swaps(cfg):
        if at == path and name in _list_fields(cls):
            return (
                f"{key}: the config does not name this key of {cls.__name__}, which technique={technique} puts there; "
                f"write +{key}={value or 'VALUE'}, or name it in technique/{technique}.yaml, where tune: of study.yaml "
                "finds it too"
            )
    return ""


def explain_leftovers(cfg: Mapping[str, Any], refusal: str) -> str:
    """What follows this refusal of a config's keys: those among them that belong to a class that an overlay replaced,
    and so were nobody's mistake in typing."""
    explained = ""
    for technique, path, old, new in _iterate_swaps(cfg):
        left = [key for key in _list_fields(old) if f"{path}.{key}: no such key" in refusal]
        if left:
            verb, them = ("is", "it") if len(left) == 1 else ("are", "them")
            what = f"{format_list(left)} {verb} left over from {old.__name__}, which technique={technique} replaces"
            explained += f"; {what}: declare {them} in {new.__name__}"
    return explained


def _iterate_swaps(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str, type, type]]:
    """Technique, dotted key, class replaced and class in effect, as far as the overlays are as they should be: what is
    wrong with them is refused elsewhere."""
    given = cfg.get("packages")
    with suppress(ConfigError):
        for technique, node in _check_mapping("overlays", cfg.get("overlays")).items():
            rule = overlay_rule(technique, node)
            packages = (*(given if isinstance(given, list | tuple) else ()), *rule.packages)
            for path, swaps in rule.swap.items():
                old = get_value(cfg, path)
                if path.endswith("._target_") and isinstance(old, str) and old in swaps:
                    replaced, in_effect = resolve(old, path, packages), resolve(swaps[old], path, packages)
                    yield technique, path.removesuffix("._target_"), replaced, in_effect


def _list_fields(cls: type) -> list[str]:
    return [field.name for field in fields(cls)]


def overlay_rule(name: str, rule: Any) -> Overlay:
    """The checked rules of one technique, from `overlays.NAME` of a composed config. Raises ConfigError."""
    rule = _check_mapping(f"overlays.{name}", rule)
    check = _check_settings(name, rule)
    several = {key: _check_mapping(f"overlays.{name}.{key}", rule.get(key)) for key in ("expect", "alone")}
    plain: dict[str, Any] = {
        key: {path: tuple(wanted) if isinstance(wanted, list) else wanted for path, wanted in node.items()}
        for key, node in several.items()
    }
    rule |= {key: tuple(rule[key]) for key in ("sets", "packages", "first") if isinstance(rule.get(key), list)}
    return instantiate(Overlay, {**rule, **plain, "check": check}, f"overlays.{name}")


def with_keys_set(cfg: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """The config with `sets` in the rules of each technique whose file lies in one of these folders of configs."""
    rules = cfg.get("overlays")
    if not isinstance(rules, Mapping):
        return cfg
    keys = {name: keys_set_by(name, folders) for name, rule in rules.items() if isinstance(rule, Mapping)}
    return {**cfg, "overlays": {**rules, **{name: {"sets": k, **rules[name]} for name, k in keys.items() if k}}}


def keys_set_by(technique: str, folders: Sequence[Path]) -> list[str]:
    """The keys that a technique's file sets or swaps; [] if none of the folders has it."""
    path = next((p for folder in folders if (p := folder / "technique" / f"{technique}.yaml").is_file()), None)
    overlay: Any = (yaml.safe_load(path.read_text()) if path else None) or {}
    rules = overlay.pop("overlays", None) or {}
    overlay.pop("defaults", None)
    swapped = {key for rule in rules.values() for key in (rule or {}).get("swap", {})}
    whole = {key.removesuffix("._target_") for key in swapped if key.count(".") > 1}
    return sorted(({*_leaves(overlay), *swapped, *whole}) - {""})


def _leaves(node: Any, path: str = "") -> set[str]:
    if not isinstance(node, Mapping) or not node:
        return {path}
    # a component that the overlay adds whole, with its class, belongs to it
    if path and "_target_" in node:
        return {path}
    return {leaf for key, value in node.items() for leaf in _leaves(value, f"{path}.{key}" if path else str(key))}


def _check_settings(name: str, rule: dict[str, Any]) -> OverlayCheck:
    """`check`, merged with the keys that were its place up to 0.1; removes both from the rule."""
    path = f"overlays.{name}.check"
    stated = _check_mapping(path, rule.pop("check", None))
    old = {key: rule.pop(key) for key in ("neutral", "small") if key in rule}
    if twice := sorted(set(old) & set(stated)):
        raise ConfigError(f"{path}.{twice[0]}: found also as overlays.{name}.{twice[0]}; leave the latter out")
    return instantiate(OverlayCheck, {**old, **stated}, path)


def _check_mapping(path: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{path}: found {value!r}; should be a mapping (recipe/overlays.py has the rules)")
    return {str(key): item for key, item in (value or {}).items()}


def _refuse(name: str, path: str, found: Any, allowed: list[str], rule: Overlay, other: str) -> None:
    """other: the technique that put it there, "" for none."""
    if other:
        raise ConfigError(
            f"technique={name} does not go with technique={other}, which puts {found} into {path}; name one of the two"
        )
    fits = rule.fits or f"it needs {path} to be {' or '.join(allowed)}"
    raise ConfigError(f"technique={name} does not fit this recipe: {path} is {found or 'not there'}; {fits}")


def get_value(cfg: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None if there is nothing."""
    node: Any = cfg
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def with_value(cfg: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the config with this value at a dotted path."""
    key, _, rest = path.partition(".")
    return {**cfg, key: with_value(cfg[key], rest, value) if rest else value}

"""Which evaluators `paribus eval` and `paribus study measure` use: a run's own, as overrides change them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from paribus.core.errors import ConfigError
from paribus.core.spelling import did_you_mean
from paribus.recipe.compose import compose_config

EVALUATORS = "evaluators"


def choose_evaluators(
    config: Mapping[str, Any], overrides: Sequence[str], config_dir: Path | None = None
) -> dict[str, Any]:
    """The evaluators of a run's config as overrides change them: evaluators=[NAME,...] takes those alone, with the
    run's settings where it has them, else of configs/evaluators/NAME.yaml; evaluators.NAME.KEY=VALUE sets one;
    +evaluators.NAME._target_=CLASS adds one. Raises ConfigError."""
    chosen = dict(config)
    for override in overrides:
        key, _, text = override.removeprefix("+").partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{key}: found {text!r}, which is not YAML: {error}") from error
        if key == EVALUATORS:
            chosen = _take_named(config, value, config_dir)
        else:
            _check_name(key, chosen)
            chosen = _with_new_value(chosen, key.split(".")[1:], value, key)
    return chosen


def _take_named(config: Mapping[str, Any], value: Any, config_dir: Path | None) -> dict[str, Any]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{EVALUATORS}: found {value!r}; should be a list of names, as in {EVALUATORS}=[accuracy]")
    own = {name: config[name] for name in names if config.get(name) is not None}
    shipped = [name for name in names if name not in own]
    composed = compose_config([f"{EVALUATORS}=[{','.join(shipped)}]"], config_dir)[EVALUATORS] if shipped else {}
    return {**own, **composed}


def _check_name(key: str, chosen: Mapping[str, Any]) -> None:
    """Raises ConfigError if a setting is of an evaluator that is not chosen. A _target_ adds one."""
    _, _, rest = key.partition(".")
    name, _, setting = rest.partition(".")
    if setting and setting != "_target_" and not chosen.get(name):
        there = ", ".join(n for n, node in chosen.items() if node) or "none"
        raise ConfigError(
            f"{key}: there is no evaluator {name} here{did_you_mean(name, list(chosen))}; chosen are {there}, and "
            f"{EVALUATORS}=[NAME,...] before it chooses others"
        )


def _with_new_value(node: Any, path: Sequence[str], value: Any, key: str) -> dict[str, Any]:
    if not path[0] or not isinstance(node or {}, dict):
        raise ConfigError(f"{key}: no such key; an evaluator's setting is {EVALUATORS}.NAME.KEY=VALUE")
    below = value if len(path) == 1 else _with_new_value((node or {}).get(path[0], {}), path[1:], value, key)
    return {**(node or {}), path[0]: below}


def on_splits(evaluators: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any]:
    """With these splits in the place of their own, for those that name splits; the first, for those that name one."""
    changed = dict(evaluators)
    for name, node in evaluators.items() if splits else ():
        if isinstance(node, dict):
            named = {"splits": list(splits), "split": splits[0]}
            changed[name] = {**node, **{key: value for key, value in named.items() if key in node}}
    return changed

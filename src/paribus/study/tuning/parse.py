"""From the `tune:` of a study.yaml to a TuneSpec. Every mistake in it is one line that names the key."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from paribus.core.errors import ConfigError
from paribus.core.spelling import did_you_mean
from paribus.study.tuning.space import Axis, Interval, ListedValues, Space, TuneSpec, Value, count_values

_KEYS = ("space", "arms", "trials", "seeds", "metric", "higher_is_better")
_KINDS = ("log_uniform", "uniform", "integers", "choices")
_EXAMPLE = "e.g. optimizer.lr: {log_uniform: [1.0e-4, 1.0e-2]}"
DEFAULT_SEEDS = 3
SEED_STEP = 100  # default seeds begin at a multiple of it, so that a study can be given a few more of its own


def parse_tune(
    node: Any,
    arms: Collection[str],
    seeds: Sequence[int],
    metric: str,
    higher_is_better: bool,
    reserved: Mapping[str, str],
) -> TuneSpec:
    """node: plain data, lists as tuples. arms, seeds, metric, higher_is_better: the study's. reserved: key that a study
    sets itself -> where instead. Raises ConfigError."""
    _check_mapping(node, "tune", "space, trials, seeds, ...")
    for key in node:
        if key not in _KEYS:
            raise ConfigError(f"tune.{key}: no such key{did_you_mean(key, _KEYS)}; there are {', '.join(_KEYS)}")
    spaces = _parse_spaces(node, arms, reserved)
    found = _parse_metric(node, metric)
    return TuneSpec(
        spaces=spaces,
        trials=_parse_trials(node, spaces),
        seeds=_parse_seeds(node.get("seeds", DEFAULT_SEEDS), seeds),
        metric=found,
        higher_is_better=_parse_direction(node, found, metric, higher_is_better),
    )


def _check_mapping(node: Any, path: str, what: str) -> None:
    if not isinstance(node, Mapping) or not node:
        raise ConfigError(f"{path}: found {node!r}; should be keys and values: {what}")


def _parse_spaces(node: Any, arms: Collection[str], reserved: Mapping[str, str]) -> dict[str, dict[str, Axis]]:
    if "space" not in node and "arms" not in node:
        raise ConfigError(f"tune.space: missing; name what is searched, {_EXAMPLE}")
    shared = _parse_space(node["space"], "tune.space", reserved) if "space" in node else {}
    own: dict[str, dict[str, Axis]] = {}
    if "arms" in node:
        _check_mapping(node["arms"], "tune.arms", "an arm's name and its further keys")
    for arm, space in node.get("arms", {}).items():
        if arm not in arms:
            raise ConfigError(f"tune.arms: found {arm}{did_you_mean(arm, list(arms))}; the arms are {', '.join(arms)}")
        own[arm] = _parse_space(space, f"tune.arms.{arm}", reserved)
    spaces = {arm: {**shared, **own.get(arm, {})} for arm in arms}
    if empty := [arm for arm, space in spaces.items() if not space]:
        raise ConfigError(f"tune.arms: nothing is searched for {empty[0]}; every arm gets the same number of trials")
    return spaces


def _parse_space(node: Any, path: str, reserved: Mapping[str, str]) -> dict[str, Axis]:
    _check_mapping(node, path, f"a key of the config and its range, {_EXAMPLE}")
    for key in node:
        if not re.fullmatch(r"[A-Za-z_][\w.@/-]*", key):
            raise ConfigError(f"{path}: found {key!r}; a key of the config is needed, without + or =, {_EXAMPLE}")
        if key in reserved:
            raise ConfigError(f"{path}.{key}: a study sets this by {reserved[key]}")
        if key.partition(".")[0] == "evaluators" or key == "data.minival":
            raise ConfigError(f"{path}.{key}: changes what is measured, not how a run trains; it cannot be tuned")
    return {key: _parse_axis(axis, f"{path}.{key}") for key, axis in node.items()}


def _parse_axis(node: Any, path: str) -> Axis:
    if not isinstance(node, Mapping) or len(node) != 1 or next(iter(node)) not in _KINDS:
        near = did_you_mean(next(iter(node)), _KINDS) if isinstance(node, Mapping) and len(node) == 1 else ""
        raise ConfigError(f"{path}: found {node!r}{near}; should be one of {', '.join(_KINDS)}, {_EXAMPLE}")
    ((kind, values),) = node.items()
    path = f"{path}.{kind}"
    if kind == "choices":
        return _parse_options(values, path)
    if not isinstance(values, tuple) or len(values) != 2:
        raise ConfigError(f"{path}: found {values!r}; should be two numbers, the smallest and the largest")
    low, high = (_parse_number(value, f"{path}.{i}") for i, value in enumerate(values))
    if kind == "integers" and not (isinstance(low, int) and isinstance(high, int)):
        raise ConfigError(f"{path}: found {low} and {high}; should be whole numbers")
    if low >= high:
        raise ConfigError(f"{path}: found {low} and {high}; the first should be the smaller one")
    if kind == "log_uniform" and low <= 0:
        raise ConfigError(f"{path}.0: found {low}; a logarithmic range should be above 0")
    return Interval(kind=kind, low=low, high=high)


def _parse_number(value: Any, path: str) -> float | int:
    """A number; 1e-4 too, which YAML takes for text."""
    number = _to_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ConfigError(f"{path}: found {value!r}; should be a number")
    return number


def _to_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _parse_options(values: Any, path: str) -> ListedValues:
    if not isinstance(values, tuple) or len(values) < 2:
        raise ConfigError(f"{path}: found {values!r}; should be a list of two values or more")
    options: list[Value] = []
    for i, value in enumerate(values):
        option = _to_number(value)
        if option is not None and not isinstance(option, bool | int | float | str):
            raise ConfigError(f"{path}.{i}: found {value!r}; should be a number, true, false, null or text")
        if isinstance(option, float) and not math.isfinite(option):
            raise ConfigError(f"{path}.{i}: found {value!r}; should be finite")
        if any(type(option) is type(other) and option == other for other in options):
            raise ConfigError(f"{path}.{i}: {value!r} is listed twice")
        options.append(option)
    return ListedValues(options=tuple(options))


def _parse_trials(node: Any, spaces: Mapping[str, Space]) -> int:
    if "trials" not in node:
        raise ConfigError("tune.trials: missing; the number of settings that are tried for each arm, e.g. 12")
    trials = node["trials"]
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ConfigError(f"tune.trials: found {trials!r}; should be a whole number of at least 1")
    for arm, space in spaces.items():
        if (there := math.prod(count_values(axis) for axis in space.values())) < trials:
            raise ConfigError(f"tune.trials: found {trials}; the space of {arm} has only {there:.0f} settings")
    return trials


def _parse_seeds(value: Any, study: Sequence[int]) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ConfigError(f"tune.seeds: found {value}; should be at least one seed")
        first = (max(study) // SEED_STEP + 1) * SEED_STEP
        return tuple(range(first, first + value))
    if not isinstance(value, tuple) or not value or not all(type(seed) is int and seed >= 0 for seed in value):
        raise ConfigError(f"tune.seeds: found {value!r}; should be a number of seeds, or a list of them")
    for i, seed in enumerate(value):
        if seed in value[:i]:
            raise ConfigError(f"tune.seeds: {seed} is listed twice")
        if seed in study:
            raise ConfigError(f"tune.seeds: {seed} is a seed of the study; what is judged must not have been chosen by")
    return value


def _parse_metric(node: Any, metric: str) -> str:
    split, _, name = metric.partition("/")
    found = node.get("metric", f"minival/{name}")
    if not isinstance(found, str) or not re.fullmatch(r"[\w.-]+/[\w./-]+", found):
        raise ConfigError(f"tune.metric: found {found!r}; should be split/name, e.g. minival/{name}")
    if found.partition("/")[0] == split:
        raise ConfigError(
            f"tune.metric: found {found}; the study is judged on {split}, so choose by another split, e.g. "
            f"minival/{name}"
        )
    return found


def _parse_direction(node: Any, found: str, metric: str, higher_is_better: bool) -> bool:
    if "higher_is_better" in node:
        if not isinstance(node["higher_is_better"], bool):
            raise ConfigError(f"tune.higher_is_better: found {node['higher_is_better']!r}; should be true or false")
        return node["higher_is_better"]
    if found.partition("/")[2] != metric.partition("/")[2]:
        raise ConfigError(f"tune.higher_is_better: missing; {found} is another metric than the study's {metric}")
    return higher_is_better

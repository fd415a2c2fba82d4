"""What a study.yaml has to be beyond its keys' types: texts that are written, arms and names that fit each other."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from paribus.core.build import did_you_mean
from paribus.core.errors import ConfigError
from paribus.study.spec import StudySpec, Tuned, Untuned, parse_key

# overrides that a study sets itself, and where its author gives them instead
STUDY_KEYS = {"seed": "seeds", "runtime.threads": "threads", "paths.runs": "the option --runs"}


def check_spec(spec: StudySpec, lone: bool) -> None:
    """lone: whether a single arm will do. Raises ConfigError that names the key."""
    _check_texts(spec)
    _check_arms(spec, lone)
    _check_names(spec)
    _check_along(spec)
    _check_secondary(spec)
    _check_factors(spec)


def _check_texts(spec: StudySpec) -> None:
    """Refuse a text that is still to be written: a report would print it as what was found."""
    texts = {"question": spec.question, "setting": spec.setting, "limits": spec.limits}
    if isinstance(spec.settings, Tuned):
        texts["settings.tuned"] = spec.settings.tuned
    if isinstance(spec.settings, Untuned):
        texts["settings.untuned"] = spec.settings.untuned
    texts |= {f"comparisons.{i}.what": pair.what for i, pair in enumerate(spec.comparisons)}
    texts |= {f"comparisons.{i}.line": pair.line for i, pair in enumerate(spec.comparisons)}
    texts |= {"along.name": spec.along.name} if spec.along else {}
    texts |= {f"paper.{i}.source": result.source for i, result in enumerate(spec.paper)}
    for key, text in texts.items():
        if re.match(r"\s*TODO\b", text, re.IGNORECASE):
            raise ConfigError(f"{key}: found {text!r}; write the text itself, since the report prints it")


def check_effect(values: Mapping[str, Any], lone: bool) -> None:
    effect = values.get("smallest_effect")
    if not lone and isinstance(effect, int | float) and effect <= 0:
        raise ConfigError(f"smallest_effect: found {effect:g}; should be greater than 0")


def _check_arms(spec: StudySpec, lone: bool) -> None:
    if len(spec.arms) < 2 and not lone:
        raise ConfigError(
            f"arms: found {len(spec.arms)}; a comparison needs two (paribus study noise runs one against itself)"
        )
    for name in spec.arms:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
            raise ConfigError(f"arms: found {name!r}; a name is letters, digits, and _ . + - after the first")
    if not spec.seeds:
        raise ConfigError("seeds: found none; should be at least one seed")
    if twice := find_duplicates(spec.seeds):
        raise ConfigError(f"seeds: {twice[0]} is listed twice; a seed is one run of every arm")
    for where, overrides in {"recipe": spec.recipe, **{f"arms.{a}": o for a, o in spec.arms.items()}}.items():
        for override in overrides:
            if "=" not in override and not override.startswith("~"):
                raise ConfigError(f"{where}: found {override!r}; an override is key=value")
            if instead := STUDY_KEYS.get(parse_key(override)):
                raise ConfigError(f"{where}: found {override!r}; a study sets this by {instead}")
        if twice := find_duplicates(parse_key(override) for override in overrides):
            both = [override for override in overrides if parse_key(override) == twice[0]]
            raise ConfigError(f"{where}: {twice[0]} is set twice, by {' and by '.join(both)}; only one would count")


def _check_names(spec: StudySpec) -> None:
    """Arms that are named in other places exist, and no comparison is listed twice."""
    for path, pairs in (("comparisons", spec.comparisons), ("paper", spec.paper)):
        for i, pair in enumerate(pairs):
            for key in ("arm", "against"):
                _check_arm(getattr(pair, key), spec.arms, f"{path}.{i}.{key}")
            if pair.arm == pair.against:
                raise ConfigError(f"{path}.{i}: {pair.arm} against itself")
    if twice := find_duplicates((pair.arm, pair.against) for pair in spec.comparisons):
        raise ConfigError(f"comparisons: {twice[0][0]} against {twice[0][1]} is listed twice")
    if not spec.comparisons and len(spec.arms) > 1:
        raise ConfigError("comparisons: found none; leave the key out to compare every arm with the first")


def _check_along(spec: StudySpec) -> None:
    """What is drawn along has two points at least, and one comparison at each of them."""
    placed = [pair for pair in spec.comparisons if pair.at is not None]
    for i, pair in enumerate(spec.comparisons):
        if pair.line and pair.at is None:
            raise ConfigError(f"comparisons.{i}.line: found {pair.line!r} without at, where on that line it stands")
        if pair.at is not None and spec.along is None:
            raise ConfigError(f"comparisons.{i}.at: found {pair.at:g}; say along: {{name: WHAT}}, what it is of")
        if pair.at is not None and not math.isfinite(pair.at):
            raise ConfigError(f"comparisons.{i}.at: found {pair.at}; should be a finite number")
        if pair.at is not None and spec.along is not None and spec.along.scale == "log" and pair.at <= 0:
            raise ConfigError(f"comparisons.{i}.at: found {pair.at:g}; on a logarithmic axis it should be above 0")
    if spec.along is not None and len({pair.at for pair in placed}) < 2:
        raise ConfigError(f"along: comparisons stand at {len({pair.at for pair in placed})} places; a curve needs two")
    if twice := find_duplicates((pair.line, pair.at) for pair in placed):
        line, at = twice[0]
        raise ConfigError(
            f"comparisons: two are at {at:g}{f' of {line}' if line else ''}; give them lines of their own"
        )


def _check_secondary(spec: StudySpec) -> None:
    names = [one.metric for one in spec.also]
    if twice := find_duplicates([spec.metric, *names]):
        also = "is the study's metric, which decides already" if twice[0] == spec.metric else "is listed twice"
        raise ConfigError(f"also: {twice[0]} {also}")


def _check_factors(spec: StudySpec) -> None:
    """The arms are all combinations of the factors, each once."""
    for factor, arms in spec.factors.items():
        for arm in arms:
            _check_arm(arm, spec.arms, f"factors.{factor}")
        if twice := find_duplicates(arms):
            raise ConfigError(f"factors.{factor}: {twice[0]} is listed twice")
    if not spec.factors:
        return
    by_combination: dict[frozenset[str], str] = {}
    for arm in spec.arms:
        combination = frozenset(factor for factor, arms in spec.factors.items() if arm in arms)
        if combination in by_combination:
            names = " and ".join(sorted(combination)) or "no factor"
            raise ConfigError(f"factors: {by_combination[combination]} and {arm} are both the arm with {names}")
        by_combination[combination] = arm
    for r in range(len(spec.factors) + 1):
        for combination in itertools.combinations(spec.factors, r):
            if frozenset(combination) not in by_combination:
                raise ConfigError(f"factors: there is no arm with {' and '.join(combination) or 'no factor'} alone")


def _check_arm(arm: str, arms: Mapping[str, Any], path: str) -> None:
    if arm not in arms:
        raise ConfigError(f"{path}: found {arm}{did_you_mean(arm, list(arms))}; the arms are {', '.join(arms)}")


def find_duplicates(items: Iterable[Any]) -> list[Any]:
    """The items that occur more than once."""
    return [item for item, n in Counter(items).items() if n > 1]

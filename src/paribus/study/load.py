"""From a folder with a study.yaml to a checked study. Every mistake in the file is one line that names the key."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from paribus.core.build import did_you_mean, instantiate
from paribus.core.errors import ConfigError
from paribus.study.secondary import parse_secondary
from paribus.study.spec import (
    SPEC,
    Along,
    ComparisonSpec,
    PaperResult,
    SequentialSeeds,
    Study,
    StudySpec,
    Tuned,
    Untuned,
)
from paribus.study.spec_checks import STUDY_KEYS, check_effect, check_spec, find_duplicates
from paribus.study.tuning.parse import parse_tune
from paribus.study.tuning.space import describe_budget
from paribus.study.units import is_accuracy, read_difference, read_value


def load_study(path: Path, lone: bool = False) -> Study:
    """The study in a folder (or of a study.yaml). lone: a single arm will do, and then needs no
    smallest_effect, as for `paribus study noise`. Raises ConfigError."""
    path = path.expanduser()
    file = path if path.name == SPEC else path / SPEC
    if not file.is_file():
        raise ConfigError(f"{path}: no study there (no {SPEC}); give the folder that has one")
    try:
        values = yaml.load(file.read_text(), _StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not YAML: {error}") from error
    try:
        spec = _parse_spec(values, lone)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return Study(file.parent, spec, spec.config_dir)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a duplicate key, where YAML itself would silently keep the last: two arms of one name."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key should be text, found {key!r}", node.start_mark
                )
        if twice := find_duplicates(keys):
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {twice[0]}", node.start_mark)
        return super().construct_mapping(node, deep)


T = TypeVar("T")


def _parse_spec(values: Any, lone: bool) -> StudySpec:
    if not isinstance(values, dict):
        raise ConfigError(f"found {values!r}; should be keys and values: question, recipe, arms, seeds, metric, ...")
    values = {key: _to_tuples(value) for key, value in values.items()}
    values |= _parse_seeds(values)
    arms = values.get("arms")
    if "comparisons" not in values and isinstance(arms, dict) and arms:
        first, *others = arms
        values["comparisons"] = tuple({"arm": arm, "against": first} for arm in others)
    values["comparisons"] = _parse_entries(ComparisonSpec, values.get("comparisons", ()), "comparisons")
    if isinstance(along := values.get("along"), dict):
        values["along"] = instantiate(Along, along, "along")
    if "also" in values:
        values["also"] = parse_secondary(values["also"])
    if isinstance(metric := values.get("metric"), str):
        values |= _read_numbers(values, metric)
        if "higher_is_better" not in values and not is_accuracy(metric):
            raise ConfigError(
                f"higher_is_better: missing; {metric} is not an accuracy, so say which way is better: false for an "
                "error or a loss, true for a score"
            )
    lone = lone and isinstance(arms, dict) and len(arms) == 1
    check_effect(values, lone)
    if lone:
        values.setdefault("smallest_effect", 0.0)
    if "paper" in values:
        values["paper"] = _parse_entries(PaperResult, values["paper"], "paper")
    if isinstance(settings := values.get("settings"), dict):
        values["settings"] = instantiate(Untuned if "untuned" in settings else Tuned, settings, "settings")
    tunes, tune = "tune" in values, values.pop("tune", None)
    worded = tunes and "settings" not in values
    if "settings" not in values and not tunes:
        raise ConfigError(
            "settings: missing; where the arms' settings come from: paper, {tuned: with which budget}, {untuned: where "
            "from}, or tune: to search them here"
        )
    if worded:
        values["settings"] = Tuned(tuned="by tune")  # worded below, once that is known to be valid
    spec = instantiate(StudySpec, values, name=SPEC, internal=("sequential",))
    check_spec(spec, lone)
    return _add_tune(spec, tune, worded) if tunes else spec


def _add_tune(spec: StudySpec, node: Any, worded: bool) -> StudySpec:
    if not isinstance(spec.settings, Tuned):
        raise ConfigError(
            f"settings: found {spec.settings if spec.settings == 'paper' else 'untuned'}; a study with tune: leaves "
            "settings out, or says tuned: and how"
        )
    tune = parse_tune(node, spec.arms, spec.seeds, spec.metric, spec.higher_is_better, STUDY_KEYS)
    settings = Tuned(tuned=describe_budget(tune)) if worded else spec.settings
    return replace(spec, tune=tune, settings=settings)


def _parse_seeds(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys seeds and sequential, from a number of seeds or from {first, more, most}; {} for a list."""
    if "sequential" in values:
        raise ConfigError("sequential: is no key of study.yaml; write seeds: {first: 5, more: 5, most: 30}")
    seeds = values.get("seeds")
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            raise ConfigError(f"seeds: found {seeds}; should be at least one seed")
        return {"seeds": tuple(range(seeds))}
    if not isinstance(seeds, dict):
        return {}
    found = instantiate(SequentialSeeds, seeds, "seeds")
    if found.most < found.first:
        raise ConfigError(f"seeds.most: found {found.most}; should be {found.first} (seeds.first) or more")
    if values.get("factors"):
        raise ConfigError("factors: every arm needs the same seeds for them, and a study that stops arms has not")
    return {"seeds": tuple(range(found.start, found.start + found.most)), "sequential": found}


def _read_numbers(values: dict[str, Any], metric: str) -> dict[str, Any]:
    """The numbers that are in the metric's unit, of which those of an accuracy may stand in points: 0.5pt."""
    found: dict[str, Any] = {}
    if "smallest_effect" in values:
        found["smallest_effect"] = read_difference(values["smallest_effect"], metric, "smallest_effect")
    if isinstance(targets := values.get("targets"), tuple):
        found["targets"] = tuple(read_value(t, metric, f"targets.{i}") for i, t in enumerate(targets))
    if isinstance(papers := values.get("paper"), tuple):
        units = {one.metric: one.unit == "points" for one in values.get("also", ())}
        found["paper"] = tuple(_read_published(entry, metric, units, f"paper.{i}") for i, entry in enumerate(papers))
    return found


def _read_published(entry: Any, metric: str, units: Mapping[str, bool], path: str) -> Any:
    """An entry of `paper` with its difference as a number. units: secondary metric -> whether it is a fraction."""
    if not isinstance(entry, dict):
        return entry
    of = entry.get("metric") or metric
    if of != metric and of not in units:
        raise ConfigError(
            f"{path}.metric: found {of}{did_you_mean(str(of), [metric, *units])}; should be the study's metric or one "
            "of also"
        )
    if "difference" not in entry:
        return entry
    difference = read_difference(entry["difference"], of, f"{path}.difference", units.get(of))
    return {**entry, "difference": difference, "metric": "" if of == metric else of}


def _parse_entries(cls: type[T], entries: Any, path: str) -> Any:
    """The entries of a list as objects; anything else as it is, for the schema to refuse."""
    if not isinstance(entries, tuple):
        return entries
    return tuple(instantiate(cls, e, f"{path}.{i}") if isinstance(e, dict) else e for i, e in enumerate(entries))


def _to_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_to_tuples(item) for item in value)
    return {key: _to_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value

"""measures.jsonl: what was measured on the weights of finished runs after their rows were recorded. Committed.

`paribus study measure` adds a line for each cell and evaluator; rows on record stay as they are. A line is {"schema",
and the fields of `Measure`}. It belongs to a row by three things: the recipe's id; `row`, a hash of the metrics that
the run had when it was measured; and one set of weights for each cell. A run that was trained again with other bits has
another hash, and its measures do not count for the row. An evaluator has one configuration in the whole file, and a
metric comes from one evaluator: numbers of two protocols are never averaged.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from paribus.core.content import drop_hashed_paths
from paribus.core.errors import ConfigError
from paribus.core.runfolder import write_atomically
from paribus.study.jsonl import read_lines
from paribus.study.rows import Row, lock_study
from paribus.study.spec import Study

SCHEMA = 1
MEASURES = "measures.jsonl"
# of an evaluator's configuration: how it is computed and where its files lie, which change no number
_NOT_PROTOCOL = ("batch_size", "root", "workers")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What one evaluator found on one run. id: of the recipe. row: `hash_metrics` of the run's metrics. weights: sha256
    of each part of the method's state that is evaluated, as in receipts.jsonl. config: of the evaluator, every default
    written out. details: curves and tables (analysis/details.py). fingerprint: the numerics it was measured with.
    versions: of packages that an evaluator's numbers may depend on. seconds: of the evaluation alone."""

    id: str
    arm: str
    seed: int
    row: str
    weights: Mapping[str, str]
    evaluator: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    details: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    versions: Mapping[str, str | None]
    seconds: float
    time: str

    @property
    def cell(self) -> str:
        return f"{self.arm}/s{self.seed}"


@dataclass(frozen=True)
class Joined:
    """The measures that belong to rows. metrics: cell -> metric -> value. details: cell -> evaluator -> name -> what it
    gave. other_row: cells that were measured on other results than their row's. several: cells whose measures are of
    more than one set of weights. Neither is used. mixed: what differs between the numerics and versions that one
    evaluator was run with, as "key of evaluator"."""

    metrics: Mapping[str, Mapping[str, float]]
    details: Mapping[str, Mapping[str, Mapping[str, Any]]]
    other_row: tuple[str, ...] = ()
    several: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()


def measures_path(study: Study) -> Path:
    return study.folder / MEASURES


def read_measures(study: Study) -> list[Measure]:
    """In the order in which they were made; a last line that was cut off is left out. Raises ConfigError for a damaged
    file or one of a newer paribus."""
    path, names = measures_path(study), {field.name for field in fields(Measure)}
    lines = read_lines(path, SCHEMA, "restore it from git or from a copy", torn=True)
    found: list[Measure] = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Measure(**{key: value for key, value in line.items() if key in names}))
        except TypeError as error:
            raise ConfigError(f"{path}: line {number} is not a measure: {error}") from error
    return found


def add_measures(study: Study, new: Sequence[Measure]) -> None:
    """Append lines, whole or not at all; the rest of a line that was cut off goes. Raises ConfigError, and writes
    nothing, where one does not go with those on record, or the disk is full."""
    path = measures_path(study)
    try:
        with lock_study(study):
            before = read_measures(study)
            for one in new:
                check_protocol(before, one.evaluator, one.config, one.metrics)
            known = {(one.id, one.evaluator, one.row) for one in before}
            added = [one for one in new if (one.id, one.evaluator, one.row) not in known]
            if added:
                kept = path.read_text() if path.is_file() else ""
                if not kept.endswith("\n"):
                    kept = "".join(line + "\n" for line in kept.splitlines()[: len(before)])
                lines = (json.dumps({"schema": SCHEMA, **asdict(one)}) + "\n" for one in added)
                write_atomically(path, kept + "".join(lines))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; make room and run the same command again"
        ) from error


def check_protocol(
    known: Iterable[Measure], evaluator: str, config: Mapping[str, Any], metrics: Iterable[str] = ()
) -> None:
    """Raises ConfigError where an evaluator was measured with another configuration, or a metric by another evaluator:
    one file holds one protocol for each. Batch sizes and places of files do not count."""
    names = set(metrics)
    for one in known:
        if one.evaluator == evaluator:
            if (changed := diff_protocols(one.config, config)) is not None:
                was, now = changed
                raise ConfigError(
                    f"evaluators.{evaluator}: {MEASURES} has it with {was}, and this is {now}; give the same settings, "
                    f"or take the lines of {evaluator} out of {MEASURES} to measure every cell anew"
                )
        elif both := sorted(names & one.metrics.keys()):
            raise ConfigError(
                f"evaluators.{evaluator}: {both[0]} is measured by {one.evaluator} already ({MEASURES}); a metric "
                "comes from one evaluator, so leave one of the two out"
            )


def diff_protocols(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str] | None:
    """What differs between two configurations of an evaluator and may change its numbers, in words: was, is. None:
    nothing."""
    old, new = protocol_of(old), protocol_of(new)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not changed:
        return None
    was, now = (", ".join(f"{key}={node.get(key)}" for key in changed) for node in (old, new))
    return was, now


def hash_metrics(metrics: Mapping[str, float]) -> str:
    """Of a row's metrics, to the last bit."""
    return hashlib.sha256(json.dumps(dict(sorted(metrics.items()))).encode()).hexdigest()[:16]


def join_measures(rows: Iterable[Row], measures: Iterable[Measure]) -> Joined:
    """What belongs to finished rows, by recipe, results and weights."""
    by_id: dict[str, list[Measure]] = {}
    for one in measures:
        by_id.setdefault(one.id, []).append(one)
    metrics: dict[str, dict[str, float]] = {}
    details: dict[str, dict[str, Mapping[str, Any]]] = {}
    other_row: list[str] = []
    several: list[str] = []
    used: list[Measure] = []
    for row in rows:
        there = by_id.get(row.id, [])
        own = [one for one in there if row.state == "done" and one.row == hash_metrics(row.metrics)]
        if there and not own:
            other_row.append(row.cell)
        if any(one.weights != own[0].weights for one in own):
            several.append(row.cell)
            continue
        used += own
        for one in sorted(own, key=lambda one: one.evaluator):
            metrics.setdefault(row.cell, {}).update(one.metrics)
            if one.details:
                details.setdefault(row.cell, {})[one.evaluator] = one.details
    return Joined(metrics, details, tuple(other_row), tuple(several), _find_mixed(used))


def _find_mixed(used: Iterable[Measure]) -> tuple[str, ...]:
    seen: dict[str, dict[str, Any]] = {}
    mixed: set[str] = set()
    for one in used:
        made_with = {**one.versions, **one.fingerprint}
        first = seen.setdefault(one.evaluator, made_with)
        mixed |= {f"{key} of {one.evaluator}" for key in {**first, **made_with} if first.get(key) != made_with.get(key)}
    return tuple(sorted(mixed))


def protocol_of(config: Any) -> Any:
    """A configuration without what changes no number, at any depth: batch sizes, and the place of a file whose checksum
    is there."""
    if isinstance(config, Mapping):
        config = drop_hashed_paths(config)
        return {key: protocol_of(value) for key, value in config.items() if key not in _NOT_PROTOCOL}
    return [protocol_of(item) for item in config] if isinstance(config, list | tuple) else config

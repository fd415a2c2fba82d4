"""`paribus study measure`: evaluators on the weights that a study's finished cells have kept, a line of measures.jsonl
for each cell and evaluator. Rows on record are not touched. Which cells can be measured: study/runner/measurable.py.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.build import to_config
from paribus.core.errors import ConfigError
from paribus.engine.distributed import World
from paribus.engine.provenance import fingerprint, package_version
from paribus.engine.receipt import checksums
from paribus.recipe.files import fill_evaluators
from paribus.recipe.recipe import rebuild_recipe
from paribus.runs.chosen_evaluators import EVALUATORS, choose_evaluators
from paribus.runs.evaluation import Evaluation, open_evaluation
from paribus.runs.saved_run import with_overrides
from paribus.study.measures import Measure, check_protocol, hash_metrics
from paribus.study.plan import Plan
from paribus.study.protocols import check_planned_protocol
from paribus.study.runner.measurable import Candidate, Skipped

VERSIONS = ("paribus", "torch", "numpy", "pillow")  # of what inputs and numbers are made with
ALLOWED = ("data.root", "data.pack", "data.on_error", "data.workers", "packages", "runtime.")


@dataclass(frozen=True)
class Request:
    """What is to be measured. names: of evaluators. settings: overrides of them, evaluators.NAME.KEY=VALUE and
    +evaluators.NAME._target_=CLASS. others: overrides of where data lie, packages and runtime."""

    names: tuple[str, ...]
    settings: tuple[str, ...]
    others: tuple[str, ...]
    config_dir: Path | None = None

    def select(self, names: Sequence[str]) -> list[str]:
        """The overrides for these evaluators alone. One that is added by its class has no config file to name."""
        own = {_parse_name(o) for o in self.settings if o.partition("=")[0].endswith("._target_")}
        listed = [name for name in names if name not in own]
        return [f"{EVALUATORS}=[{','.join(listed)}]", *(o for o in self.settings if _parse_name(o) in names)]


def parse_request(names: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> Request:
    """Raises ConfigError for an override that has no place here."""
    settings = tuple(o for o in overrides if o.removeprefix("+").startswith(f"{EVALUATORS}."))
    for override in settings:
        if _parse_name(override) not in names:
            raise ConfigError(
                f"{override.partition('=')[0]}: --{EVALUATORS} names {', '.join(names)}; name {_parse_name(override)} "
                "too, or leave it out"
            )
    others = tuple(o for o in overrides if o not in settings)
    for override in others:
        key = override.partition("=")[0]
        if not any(key == allowed or (allowed.endswith(".") and key.startswith(allowed)) for allowed in ALLOWED):
            raise ConfigError(
                f"{key}: cannot be overridden here, where cells are measured on the data of their study; what can be: "
                f"{EVALUATORS}.NAME.KEY, {', '.join(n + 'KEY' if n.endswith('.') else n for n in ALLOWED)}"
            )
    return Request(tuple(dict.fromkeys(names)), settings, others, config_dir)


def list_missing(one: Candidate, request: Request, known: Sequence[Measure], plan: Plan) -> list[str]:
    """The evaluators that this cell has no measure of yet. Raises ConfigError if one was measured otherwise, or is in
    the runs of an arm."""
    for name, config in _describe(one, request).items():
        check_protocol(known, name, config)
        check_planned_protocol(plan.protocols, name, config)
    done = {m.evaluator for m in known if (m.id, m.row) == (one.row.id, hash_metrics(one.row.metrics))}
    return [name for name in request.names if name not in done]


def _describe(one: Candidate, request: Request) -> dict[str, Any]:
    """The configurations of the evaluators, every default written out."""
    packages = [o for o in request.others if o.startswith("packages=")]
    config = with_overrides(runfolder.read_config(one.folder), packages, ("packages",))
    chosen = choose_evaluators(config[EVALUATORS], request.select(request.names), request.config_dir)
    return fill_evaluators(rebuild_recipe({**config, EVALUATORS: chosen})).config[EVALUATORS]


def measure_cell(
    one: Candidate, names: Sequence[str], request: Request, known: Sequence[Measure]
) -> list[Measure] | Skipped:
    """What these evaluators find on a cell. Raises ConfigError where an evaluator does not fit."""
    world = World()
    overrides = [*request.others, *request.select(names)]
    evaluation = open_evaluation(one.folder, overrides, ALLOWED, (), world, request.config_dir)
    saved = evaluation.found.checkpoint
    if saved.step != one.row.steps:
        return Skipped(one.row.cell, f"its checkpoint of step {one.row.steps} is damaged", is_wrong=True)
    if evaluation.data.checksum != one.row.data_checksum:
        return Skipped(one.row.cell, "its data are not those it was trained on (another checksum)", is_wrong=True)
    weights = {part: digest for part, digest in checksums(saved.method).items() if part != "optimizer"}
    of_row = [m for m in known if (m.id, m.row) == (one.row.id, hash_metrics(one.row.metrics))]
    if any(m.weights != weights for m in of_row):
        return Skipped(one.row.cell, "its weights are not those that were measured before", is_wrong=True)
    numerics = _read_numerics(evaluation, world)
    return [_measure(evaluation, name, one, weights, numerics) for name in names]


def _measure(
    evaluation: Evaluation, name: str, one: Candidate, weights: Mapping[str, str], numerics: Mapping[str, Any]
) -> Measure:
    evaluator, start = evaluation.evaluators.get(name), time.perf_counter()
    if evaluator is None:
        raise ConfigError(f"evaluators.{name}: it needs the run's own training images; leave data.root=DIR out")
    findings = replace(evaluation, evaluators={name: evaluator}).measure()
    return Measure(
        id=one.row.id,
        arm=one.row.arm,
        seed=one.row.seed,
        row=hash_metrics(one.row.metrics),
        weights=weights,
        evaluator=name,
        config=to_config(evaluator),
        metrics=dict(sorted(findings.metrics.items())),
        details=findings.details.get(name, {}),
        fingerprint=numerics,
        versions={package: package_version(package) for package in VERSIONS},
        seconds=round(time.perf_counter() - start, 3),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _read_numerics(evaluation: Evaluation, world: World) -> dict[str, Any]:
    recipe = evaluation.found.recipe
    found = fingerprint(recipe.runtime, evaluation.place.device, world, "", recipe.packages)
    return {key: value for key, value in found.items() if key != "optimizer"}


def _parse_name(override: str) -> str:
    """Of the evaluator that an override sets."""
    return override.removeprefix("+").partition("=")[0].split(".")[1]

"""Rows from another machine, from its run folders or its results.jsonl. What is not a cell of the plan is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paribus.core import runfolder
from paribus.core.errors import ConfigError
from paribus.study import plan as plans
from paribus.study.plan import Plan
from paribus.study.rows import Row, read_row, read_rows
from paribus.study.spec import PLAN, Study


@dataclass(frozen=True)
class ForeignRow:
    """A row from elsewhere. recipe: its result-changing settings, without the seed; None where unknown."""

    where: str
    row: Row
    recipe: Mapping[str, Any] | None


def read_run_folder(path: Path, recipe: Mapping[str, Any]) -> ForeignRow:
    """The row of a run folder. recipe: of its config.yaml. Raises ConfigError unless it is done."""
    if runfolder.read_state(path) != "DONE":
        raise ConfigError(f"{path}: the run is not done; only finished runs are imported")
    try:
        row = read_row(path, "", "")
    except KeyError as error:
        raise ConfigError(f"{path}: {runfolder.SUMMARY} has no {error}") from error
    if row is None:
        raise ConfigError(f"{path}: has no {runfolder.SUMMARY}")
    return ForeignRow(str(path), row, recipe)


def read_results_file(path: Path) -> list[ForeignRow]:
    """The finished rows of a results.jsonl, with their recipes if its plan is in the same folder."""
    beside = plans.read_plan(path.with_name(PLAN))
    known = beside.by_id() if beside else {}
    return [
        ForeignRow(f"{path}: {row.cell}", row, beside.recipes[row.arm] if beside and row.id in known else None)
        for row in read_rows(path)
        if row.state == "done"
    ]


def select_new_rows(study: Study, plan: Plan, found: Sequence[ForeignRow], rows: Sequence[Row]) -> list[Row]:
    """The rows that are new here, under this study's names. Raises ConfigError if one does not belong, or contradicts a
    recorded row."""
    cells = plan.by_id()
    recorded = {row.id: row for row in rows if row.state == "done"}
    new: dict[str, Row] = {}
    for one in found:
        cell = cells.get(one.row.id)
        if cell is None:
            raise ConfigError(f"{one.where}: recipe {one.row.id} is not in the plan; {_explain_unplanned(one, plan)}")
        other = recorded.get(one.row.id) or new.get(one.row.id)
        if other is None:
            new[one.row.id] = replace(one.row, study=study.name, arm=cell.arm)
        elif _differ(other.metrics, one.row.metrics) or _differ(other.curves, one.row.curves):
            raise ConfigError(
                f"{one.where}: {cell.name} is already recorded, with other numbers "
                f"({_format_metric_differences(other, one.row)}); remove its row from results.jsonl first if this one "
                "should count"
            )
    return list(new.values())


def _differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """In what both have: one may be of a version that logged fewer metrics."""
    return any(a[key] != b[key] for key in a.keys() & b.keys())


def _explain_unplanned(one: ForeignRow, plan: Plan) -> str:
    """Why a recipe is not in the plan: the keys in which it differs from the nearest arm."""
    if one.recipe is None:
        return "import its run folder instead to see which keys differ"
    changes_by_arm = {arm: plans.diff_recipes(recipe, one.recipe) for arm, recipe in plan.recipes.items()}
    arm = min(changes_by_arm, key=lambda name: len(changes_by_arm[name]))
    if not changes_by_arm[arm]:
        return f"it is arm {arm} at seed {one.row.seed}, which is not planned"
    changes = [f"{key} is {planned} in the plan, {here} here" for key, planned, here in changes_by_arm[arm][:6]]
    return f"its nearest arm is {arm}: {', '.join(changes)}"


def _format_metric_differences(a: Row, b: Row) -> str:
    both = [(key, value, b.metrics[key]) for key, value in a.metrics.items() if key in b.metrics]
    return ", ".join(f"{key} {one} and {other}" for key, one, other in both if one != other) or "other curves"

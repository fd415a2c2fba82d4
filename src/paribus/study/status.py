"""How a study stands, arm by arm, by its plan, its rows and the names in its run folders: no torch, no composing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.runner.cells import Standing
from paribus.study.runner.eta import Pace
from paribus.study.slurm import queue

STATES = ("done", "running", "failed", "waiting")
ON_SLURM = ("pending", "requeued", "cancelled")  # counted where there are any


@dataclass(frozen=True)
class Status:
    """standings: one for each planned cell, in order. left: seconds until all is done with as many workers as run now
    (or `workers`), None where nothing is known. warning: what could not be asked."""

    study: str
    standings: tuple[tuple[Cell, Standing], ...]
    left: float | None
    warning: str = ""

    def counts(self, arm: str | None = None) -> dict[str, int]:
        """State -> cells, of an arm or of all."""
        found = Counter(now.state for cell, now in self.standings if arm in (None, cell.arm))
        return {state: found[state] for state in self.states()}

    def states(self) -> tuple[str, ...]:
        there = {now.state for _, now in self.standings}
        return (*STATES, *(state for state in ON_SLURM if state in there))


def status_of(plan: Plan, rows: Iterable[Row], runs: Path, now: float, workers: int = 0) -> Status:
    """now: UNIX time. workers: at a time, from here on; 0 for as many as run now."""
    rows, warning = list(rows), ""
    recorded = {row.cell for row in rows if row.state == "done"}
    try:
        found = queue.standings(plan, runs, recorded)
    except ConfigError as error:
        warning = f"cells that were sent to Slurm count as waiting: {error}"
        found = {cell.name: cells.standing(runs, cell, cell.name in recorded) for cell in plan.cells}
    standings = tuple((cell, found[cell.name]) for cell in plan.cells)
    running = [(cell.arm, now - s.since if s.since else 0.0) for cell, s in standings if s.state == "running"]
    missing = Counter(cell.arm for cell, s in standings if s.state not in ("done", "running"))
    left = Pace(rows).left(missing, running, workers or len(running))
    return Status(plan.study, standings, left, warning)


def as_json(status: Status, arms: Iterable[str]) -> dict[str, Any]:
    """Plain data, with one entry a cell."""

    def entry(cell: Cell, now: Standing) -> Mapping[str, Any]:
        return {"cell": cell.name, "id": cell.id, "folder": cell.folder, "state": now.state} | {
            key: value for key in ("host", "process", "why", "job") if (value := getattr(now, key))
        }

    return {
        "study": status.study,
        "counts": status.counts(),
        "arms": {arm: status.counts(arm) for arm in arms},
        "seconds_left": status.left,
        "cells": [entry(cell, now) for cell, now in status.standings],
    }

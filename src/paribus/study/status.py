"""The state of a study, by arm, from its plan, its rows and the names in its run folders: no torch, no composing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paribus.core.errors import ConfigError
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.runner.cells import CellState
from paribus.study.runner.eta import EtaEstimator
from paribus.study.slurm import queue

STATES = ("done", "running", "failed", "waiting")
ON_SLURM = ("pending", "requeued", "cancelled")  # listed only where there are any


@dataclass(frozen=True)
class Status:
    """cell_states: one for each planned cell, in order. seconds_left: until all is done with as many workers as run now
    (or `workers`), None where unknown. warning: why Slurm's queue could not be read."""

    study: str
    cell_states: tuple[tuple[Cell, CellState], ...]
    seconds_left: float | None
    warning: str = ""

    def counts(self, arm: str | None = None) -> dict[str, int]:
        """State -> cells, of an arm or of all."""
        found = Counter(now.state for cell, now in self.cell_states if arm in (None, cell.arm))
        return {state: found[state] for state in self.states()}

    def states(self) -> tuple[str, ...]:
        there = {now.state for _, now in self.cell_states}
        return (*STATES, *(state for state in ON_SLURM if state in there))


def build_status(
    plan: Plan, rows: Iterable[Row], runs: Path, now: float, workers: int = 0, repeat: bool = False
) -> Status:
    """now: UNIX time. workers: concurrent cells from now on; 0 for as many as run now. repeat: runs is the folder of a
    repeat, where a row on record makes no cell done."""
    rows, warning = list(rows), ""
    recorded = {row.cell for row in rows if row.state == "done" and not repeat}
    try:
        found = queue.read_cell_states(plan, runs, recorded)
    except ConfigError as error:
        warning = f"cells submitted to Slurm count as waiting: {error}"
        found = {cell.name: cells.read_state(runs, cell, cell.name in recorded) for cell in plan.cells}
    standings = tuple((cell, found[cell.name]) for cell in plan.cells)
    running = [(cell.arm, now - s.since if s.since else 0.0) for cell, s in standings if s.state == "running"]
    missing = Counter(cell.arm for cell, s in standings if s.state not in ("done", "running"))
    left = EtaEstimator(rows).seconds_left(missing, running, workers or len(running))
    return Status(plan.study, standings, left, warning)


def to_json(status: Status, arms: Iterable[str]) -> dict[str, Any]:
    """Plain data, with one entry per cell."""

    def entry(cell: Cell, now: CellState) -> Mapping[str, Any]:
        return {"cell": cell.name, "id": cell.id, "folder": cell.folder, "state": now.state} | {
            key: value for key in ("host", "process", "why", "job") if (value := getattr(now, key))
        }

    return {
        "study": status.study,
        "counts": status.counts(),
        "arms": {arm: status.counts(arm) for arm in arms},
        "seconds_left": status.seconds_left,
        "cells": [entry(cell, now) for cell, now in status.cell_states],
    }

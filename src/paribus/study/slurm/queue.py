"""Studies on a Slurm cluster: an array over the cells that are not done, and the state of its tasks. No daemon.

RUNS/slurm/ holds the scripts, the output of the jobs, and jobs.jsonl: {"schema", "job", "cells", "script", "time"} for
each array, whose task i is cells[i]. The state of a cell comes from its run folder and log; `squeue` is queried only
where they do not determine it. `sacct` is not used: many clusters keep no accounts. A job unknown to squeue has ended.
"""

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from paribus.core.errors import ConfigError, to_one_line
from paribus.study import rows
from paribus.study.jsonl import read_lines
from paribus.study.plan import Cell, Plan
from paribus.study.rows import Row
from paribus.study.runner import cells
from paribus.study.runner.cells import CellState
from paribus.study.slurm import script
from paribus.study.slurm.script import JobOptions
from paribus.study.spec import Study

SCHEMA, FOLDER, JOBS = 1, "slurm", "jobs.jsonl"
COMMAND_TIMEOUT_S = 60.0  # seconds until an unresponsive controller counts as down
_PENDING_STATES = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING_STATES = {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}


@dataclass(frozen=True)
class SlurmTask:
    """One task of an array in the queue. state: Slurm's name for it. restarts: how often it was requeued."""

    state: str
    restarts: int
    reason: str


def has_jobs(runs: Path) -> bool:
    """Whether these runs were ever submitted to Slurm."""
    return (runs / FOLDER / JOBS).exists()


def read_tasks(runs: Path) -> dict[str, str]:
    """Name of a cell -> its latest task, as JOB_INDEX. Raises ConfigError if the file is damaged."""
    lines = read_lines(runs / FOLDER / JOBS, SCHEMA, "move it away; queued cells may then be submitted twice")
    return {name: f"{line['job']}_{i}" for line in lines for i, name in enumerate(line["cells"])}


def query_tasks(jobs: Iterable[str]) -> dict[str, SlurmTask]:
    """JOB_INDEX -> task, of the arrays among these jobs that Slurm still knows. Raises ConfigError if it does not
    answer."""
    jobs = sorted(set(jobs), key=int)
    if not jobs:
        return {}
    fields = "ArrayJobID:20|,ArrayTaskID:12|,State:20|,RestartCnt:8|,Reason:60|"
    try:
        which = f"--jobs={','.join(jobs)}"
        output = _run_slurm("squeue", "--noheader", "--array", "--states=all", which, f"--Format={fields}")
    except ConfigError as error:
        if "Invalid job id" not in str(error):
            raise
        return {}  # squeue fails so only for a single unknown job
    found = [[field.strip() for field in line.split("|")] for line in output.splitlines()]
    return {
        f"{array}_{index}": SlurmTask(state, int(restarts), why) for array, index, state, restarts, why, *_ in found
    }


def read_cell_states(plan: Plan, runs: Path, recorded: Iterable[str]) -> dict[str, CellState]:
    """Name -> state of the cell, by folders and then by the queue. recorded: cells with a row.

    Raises ConfigError if the queue is needed and does not answer.
    """
    recorded = set(recorded)
    found = {cell.name: cells.read_state(runs, cell, cell.name in recorded) for cell in plan.cells}
    known = read_tasks(runs)
    open_ = {name: known[name] for name, now in found.items() if now.state in ("waiting", "failed") and name in known}
    tasks = query_tasks(task.partition("_")[0] for task in open_.values())
    return found | {name: resolve_state(found[name], task, tasks.get(task)) for name, task in open_.items()}


def resolve_state(now: CellState, name: str, task: SlurmTask | None) -> CellState:
    """The state of a cell whose folder shows it neither done nor running. task: of its latest job, None where it is
    unknown to Slurm."""
    if task is not None and task.state in _PENDING_STATES:
        return CellState(
            "requeued" if task.restarts else "pending", job=name, why="" if task.reason == "None" else task.reason
        )
    if task is not None and task.state in _RUNNING_STATES and (task.state != "COMPLETING" or now.state != "failed"):
        return CellState("running", job=name)
    if now.state == "failed":
        return replace(now, job=name)
    how = f"ended: {task.state}" if task is not None else "has left the queue"
    return CellState("cancelled", job=name, why=f"its Slurm job {name} {how}, and the cell is not done")


def submit(study: Study, plan: Plan, runs: Path, missing: Sequence[Cell], job_options: JobOptions) -> list[str]:
    """Submit arrays over these cells, as few as Slurm's MaxArraySize allows, and return their job ids. Raises
    ConfigError where sbatch refuses; arrays submitted before that stay, and are recorded."""
    folder, most = runs / FOLDER, max_array_size()
    parts = [missing[i : i + most] for i in range(0, len(missing), most)]
    ids: list[str] = []
    for part in parts:
        text = script.build_script(job_options, study, runs, part)
        path = folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}.sbatch"
        path.write_text(text)
        # with Slurm's variables, a job submitted from inside another would look like a part of that one
        env = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
        job = _run_slurm("sbatch", "--parsable", str(path), env=env).strip().partition(";")[0]
        line = {"schema": SCHEMA, "job": job, "cells": [cell.name for cell in part], "script": path.name}
        line["time"] = datetime.now().astimezone().isoformat(timespec="seconds")
        with open(folder / JOBS, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        ids.append(job)
    return ids


@contextmanager
def submission_lock(runs: Path) -> Iterator[None]:
    """One process at a time submits cells of these runs. Raises ConfigError for the second."""
    folder = runs / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a")  # noqa: SIM115 — closed below
    except OSError as error:
        raise ConfigError(f"{folder} cannot be created: {error.strerror}; choose another with --runs DIR") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{folder}: another process is submitting cells; wait for it") from error
        yield


def max_array_size() -> int:
    """How many tasks an array may have. Raises ConfigError if there is no Slurm here."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _run_slurm("scontrol", "show", "config"))
    return max(1, int(found[1])) if found else 1001


def cancel(tasks: Iterable[str]) -> None:
    _run_slurm("scancel", *tasks)


def requeue_self() -> str | None:
    """Requeue the task that this process runs in; returns why not, if that is refused.

    Only where it still runs, or ends at its time limit: a cancelled job would come back to life, and a preempted one
    is requeued anyway. The array's last task has the array's own number, so a task is
    named as JOB_INDEX: its SLURM_JOB_ID alone would requeue them all.
    """
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")
    try:
        job_text = _run_slurm("scontrol", "show", "job", "--oneliner", name)
        if not may_requeue(job_text):
            return f"Slurm is ending job {name}, and requeues it if configured to"
        _run_slurm("scontrol", "requeue", name)
    except ConfigError as error:
        return str(error)
    return None


def may_requeue(job_text: str) -> bool:
    """job_text: what scontrol shows of a job."""
    fields = dict(re.findall(r"(\w+)=(\S+)", job_text))
    if fields.get("JobState") == "RUNNING":
        return True
    return (
        fields.get("JobState") in ("COMPLETING", "TIMEOUT")
        and fields.get("EndTime") != "Unknown"
        and _has_timed_out(fields)
    )


def _has_timed_out(fields: Mapping[str, str]) -> bool:
    return (limit := _parse_seconds(fields.get("TimeLimit", ""))) is not None and (
        _parse_seconds(fields["RunTime"]) or 0
    ) >= limit


def _parse_seconds(text: str) -> int | None:
    """Seconds of Slurm's [days-]hours:minutes:seconds; None for UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def record_missing_rows(study: Study, plan: Plan, runs: Path, results: Path) -> int:
    """Record the rows of cells that are done but wrote none, say for a full disk; returns how many. results: the file
    for them, the study's or a repeat's."""
    known = {row.cell: row for row in rows.read_rows(results) if row.state == "done"}
    new: list[Row] = []
    for cell in plan.cells:
        if cell.name not in known and (runs / cell.folder / "DONE").exists():
            with suppress(ConfigError, KeyError):  # damaged: status and report continue without it
                if (row := rows.read_row(runs / cell.folder, study.name, cell.arm)) is not None:
                    new.append(row)
    if new:
        rows.update_rows(study, new, plan.ids(), results)
    return len(new)


def _run_slurm(command: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What one of Slurm's commands prints. Raises ConfigError with its error message."""
    try:
        finished = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False, env=env
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"{command}: no such command; --cluster slurm needs Slurm's commands on this machine"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{command}: Slurm has not answered for {COMMAND_TIMEOUT_S:.0f} s; try again later"
        ) from error
    if finished.returncode != 0:
        raise ConfigError(f"{command}: {to_one_line(finished.stderr) or f'exit code {finished.returncode}'}")
    return finished.stdout

"""Slurm without Slurm: batch scripts, how a cell stands by folder and queue, and when a job may queue again."""

import re
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import made_up_plan, written
from paribus.cli.study.cluster import check, send
from paribus.cli.tree import find, read
from paribus.core.errors import ConfigError
from paribus.study.runner.cells import CellState
from paribus.study.slurm import queue, script, templates
from paribus.study.slurm.queue import SlurmTask, may_requeue, resolve_state
from paribus.study.slurm.script import JobOptions


def arguments(*words: str) -> Namespace:
    """Of `paribus study`."""
    args = read(*find(["study", *words]))
    assert args is not None
    return args


@pytest.mark.parametrize("name", templates.list_templates())
def test_templates_are_filled_in(name: str, tmp_path: Path) -> None:
    study = written(tmp_path / "a study")
    cells = made_up_plan(study).cells
    asked = JobOptions(template=name, options=[("comment", "two words")], gpus=4, nodes=3, cpus=6, at_once=2)
    text = script.build_script(asked, study, tmp_path / "runs", cells)
    lines = text.splitlines()
    assert "{{" not in "".join(line for line in lines if not line.startswith("# {{ data }}"))
    for option in ("array=0-3%2", "requeue", "gpus-per-node=4", "comment='two words'", "cpus-per-task=6"):
        assert f"#SBATCH --{option}" in lines
    assert "cells=(baseline/s0 baseline/s1 cutmix/s0 cutmix/s1)" in lines
    command = lines[-1]
    assert command.startswith("exec ")
    assert f"'{tmp_path}/a study'" in command
    words = shlex.split(command.replace("${cells[SLURM_ARRAY_TASK_ID]}", "baseline/s0"))
    told = arguments(*words[words.index("study") + 1 :])
    assert (told.study, told.runs, told.cell) == (study.folder, tmp_path / "runs", "baseline/s0")
    assert told.launcher.startswith("srun ") == (name != "one_gpu")
    assert ("#SBATCH --nodes=3" in lines) == (name == "many_nodes")
    assert ("#SBATCH --ntasks-per-node=4" in lines) == (name != "one_gpu")


def test_an_array_takes_all_arms_of_a_seed_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path / "study")
    plan = made_up_plan(study)

    def order() -> str:
        send(arguments("run", "study", "--cluster", "slurm", "--dry-run"), study, plan, tmp_path / "runs", plan.cells)
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cells="))

    assert order() == "cells=(baseline/s0 cutmix/s0 baseline/s1 cutmix/s1)"
    monkeypatch.setattr("paribus.cli.study.cluster.plans.order_cells", tuple)
    assert order() == "cells=(baseline/s0 baseline/s1 cutmix/s0 cutmix/s1)", "the plan's own order is another"


def test_a_time_limit_is_for_cells_of_this_machine() -> None:
    check(arguments("run", "study", "--for", "90m"))
    check(arguments("run", "study", "--cluster", "slurm"))
    with pytest.raises(ConfigError, match=r"--for: is for cells on this machine; with --cluster slurm, .* --time"):
        check(arguments("run", "study", "--cluster", "slurm", "--for", "90m"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ("#SBATCH --array={{ array }}\ncells=({{ cells }})\n", "has no {{ cell }}"),
        (
            "#SBATCH --array={{ array }} {{ partition }}\ncells=({{ cells }})\n{{ cell }}\n",
            "has {{ partition }}; there are",
        ),
        ("# {{ array }} is for the reader\ncells=({{ cells }})\n{{ cell }}\n", "has no {{ array }}"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(text: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "own.sbatch"
    if text is not None:
        file.write_text(text)
    study = written(tmp_path / "study")
    with pytest.raises(ConfigError, match=re.escape(why)):
        script.build_script(JobOptions(template=str(file)), study, tmp_path, made_up_plan(study).cells)


def test_options_of_a_cluster_want_one() -> None:
    with pytest.raises(ConfigError, match=r"^--dry-run: needs --cluster slurm"):
        check(arguments("run", "x", "--dry-run"))
    check(arguments("run", "x", "--cluster", "slurm", "--dry-run", "--time", "1:00"))
    check(arguments("run", "x", "--workers", "2"))


@pytest.mark.parametrize(
    ("now", "task", "state"),
    [
        ("waiting", SlurmTask("PENDING", 0, "Resources"), "pending"),
        ("waiting", SlurmTask("PENDING", 2, "BeginTime"), "requeued"),
        ("failed", SlurmTask("PENDING", 0, "Resources"), "pending"),  # sent again after it had failed
        ("waiting", SlurmTask("RUNNING", 0, "None"), "running"),
        ("waiting", SlurmTask("COMPLETING", 0, "None"), "running"),
        ("failed", SlurmTask("COMPLETING", 0, "None"), "failed"),
        ("failed", SlurmTask("FAILED", 0, "NonZeroExitCode"), "failed"),
        ("failed", None, "failed"),
        ("waiting", SlurmTask("CANCELLED", 0, "None"), "cancelled"),
        ("waiting", SlurmTask("TIMEOUT", 0, "None"), "cancelled"),
        ("waiting", None, "cancelled"),
    ],
)
def test_how_a_cell_stands(now: Any, task: SlurmTask | None, state: str) -> None:
    found = resolve_state(CellState(now, why="it broke" if now == "failed" else ""), "7_0", task)
    assert found.state == state
    assert found.job == "7_0"
    if state == "failed":
        assert found.why == "it broke"


@pytest.mark.parametrize(("reason", "why"), [("Resources", "Resources"), ("None", "")])
def test_why_a_cell_waits_is_said_only_if_slurm_says_it(reason: str, why: str) -> None:
    assert resolve_state(CellState("waiting"), "7_0", SlurmTask("PENDING", 0, reason)).why == why


def test_the_latest_job_of_a_cell_counts(tmp_path: Path) -> None:
    folder = tmp_path / queue.FOLDER
    folder.mkdir()
    assert not queue.has_jobs(tmp_path)
    lines = ('{"schema": 1, "job": "7", "cells": ["a/s0", "b/s0"]}', '{"schema": 1, "job": "9", "cells": ["b/s0"]}')
    (folder / queue.JOBS).write_text("\n".join(lines))
    assert queue.has_jobs(tmp_path)
    assert queue.read_tasks(tmp_path) == {"a/s0": "7_0", "b/s0": "9_0"}


# as `scontrol show job --oneliner` of Slurm 22.05 tells them, shortened
@pytest.mark.parametrize(
    ("told", "may"),
    [
        ("JobState=RUNNING RunTime=00:00:02 TimeLimit=00:10:00 EndTime=2026-11-26T16:56:19", True),
        ("JobState=COMPLETING RunTime=00:00:02 TimeLimit=365-00:00:00 EndTime=2026-11-26T16:56:19", False),  # scancel
        ("JobState=COMPLETING RunTime=00:00:00 TimeLimit=UNLIMITED EndTime=Unknown", False),  # is queueing again
        ("JobState=COMPLETING RunTime=00:01:13 TimeLimit=00:01:00 EndTime=2026-11-26T16:56:19", True),
        ("JobState=COMPLETING RunTime=1-00:00:01 TimeLimit=1-00:00:00 EndTime=2026-11-26T16:56:19", True),
        ("JobState=CANCELLED RunTime=00:01:13 TimeLimit=00:01:00 EndTime=2026-11-26T16:56:19", False),
        ("", False),
    ],
)
def test_when_a_job_may_queue_again(told: str, may: bool) -> None:
    assert may_requeue(told) == may


def test_without_slurm_it_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^squeue: no such command; --cluster slurm needs"):
        queue.query_tasks(["7"])


def test_a_second_sender_is_refused(tmp_path: Path) -> None:
    with (
        queue.submission_lock(tmp_path),
        pytest.raises(ConfigError, match="another process is submitting"),
        queue.submission_lock(tmp_path),
    ):
        pass

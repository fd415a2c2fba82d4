"""Studies that really train: killed, resumed, shared, refused. The record must not show that anything happened."""

import contextlib
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from helpers.studies import written
from paribus.study.plan import require_plan
from paribus.study.rows import Row, read_rows
from paribus.study.runner.launcher import Launch
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.signals import LaunchStop
from paribus.study.runner.slots import LaunchSettings

Run = Callable[..., CompletedProcess[str]]
LONG = [
    "experiment=smoke",
    "steps=600ba",
    "batch_size=64",
    "every.log=7ba",
    "every.evaluate=30ba",
    "every.checkpoint=25ba",
]


def launch(folder: Path, *options: str, **streams: Any) -> subprocess.Popen[str]:
    """`paribus study run study` in a folder, left running."""
    return subprocess.Popen(
        [sys.executable, "-m", "paribus.cli", "study", "run", "study", *options],
        cwd=folder,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams},
    )


def logs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "runs" / "study").glob("*.log"))}


def starts(folder: Path) -> list[int]:
    return [text.count("== start ") for text in logs(folder).values()]


def rows(folder: Path) -> list[Row]:
    return read_rows(folder / "study" / "results.jsonl")


def numbers(folder: Path) -> list[Any]:
    """What repeats bit for bit."""
    return [(row.cell, row.id, row.state, row.metrics, row.curves) for row in rows(folder)]


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, paribus: Run) -> Path:
    """A folder with a finished study of two cells. Tests that write take a copy."""
    folder = tmp_path_factory.mktemp("done")
    written(folder / "study", seeds=1)
    told = paribus("study", "run", "study", "--workers", "2", cwd=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "2 of 2 done" in told.stdout
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_study_leaves_rows_with_everything_in_them(done: Path) -> None:
    first, second = rows(done)
    assert (first.cell, second.cell) == ("baseline/s0", "cutmix/s0")
    for row in (first, second):
        folder = next((done / "runs" / "study").glob(f"*{row.id}"))
        summary = json.loads((folder / "summary.json").read_text())
        assert row.metrics["val/acc1"] == summary["metrics"]["val/acc1"]
        assert [step for step, _ in row.curves["val/acc1"]] == [10, 20]
        assert row.curves["train/loss"][-1] == [20, row.metrics["train/loss"]]
        assert (row.state, row.steps, row.segments, row.mixed) == ("done", 20, 1, False)
        assert row.fingerprint["threads"] == 1
        assert row.cost["parameters"] == summary["model"]["parameters"] > 0
        assert (row.cost["macs"] or 0) > 0
    assert first.metrics != second.metrics
    assert starts(done) == [1, 1]


def test_a_run_of_a_study_is_verified_in_its_folder(done: Path, paribus: Run) -> None:
    for folder in sorted(path.parent for path in (done / "runs" / "study").glob("*/config.yaml")):
        told = paribus("verify", str(folder.relative_to(done)), cwd=done)
        assert told.returncode == 0, told.stdout + told.stderr
        assert "bit-exact: 20 losses" in told.stdout


def test_running_again_runs_nothing_and_keeps_every_byte(copy: Path, paribus: Run) -> None:
    before = (copy / "study" / "results.jsonl").read_bytes()
    again = paribus("study", "run", "study", cwd=copy)
    assert again.returncode == 0, again.stderr
    assert "2 cells: 2 done, 0 running, 0 to run" in again.stdout
    assert (copy / "study" / "results.jsonl").read_bytes() == before
    assert starts(copy) == [1, 1]


@pytest.mark.slow
def test_a_repeat_trains_again_and_holds_the_runs_against_the_record(copy: Path, paribus: Run) -> None:
    """Run folders and rows are all there, which once was taken for a repeat; one row says what no run gave."""
    path = copy / "study" / "results.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    second["metrics"]["val/acc1"] += 0.01
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    before = path.read_bytes()
    told = paribus("study", "run", "study", "--repeat", "--workers", "2", cwd=copy)
    assert told.returncode == 4, told.stdout + told.stderr
    assert "repeat-1: of 2 cells trained in it, 1 equal their rows on record bit for bit" in told.stdout
    assert "differs: cutmix/s0: val/acc1 (" in told.stdout
    assert path.read_bytes() == before
    assert starts(copy) == [1, 1]
    logs = [path.read_text() for path in (copy / "runs" / "study" / "repeat-1").glob("*.log")]
    assert [text.count("== start ") for text in logs] == [1, 1]


def test_a_changed_recipe_is_refused_with_the_keys_and_nothing_is_overwritten(copy: Path, paribus: Run) -> None:
    written(
        copy / "study", seeds=1, arms={"baseline": [], "cutmix": ["technique=cutmix", "transforms.cutmix.prob=0.5"]}
    )
    before = {path.name: path.read_bytes() for path in (copy / "study").iterdir()}
    refused = paribus("study", "run", "study", cwd=copy)
    assert refused.returncode == 2
    assert (
        "arms.cutmix: the recipe has changed since its rows were recorded: transforms.cutmix.prob was 1.0, is 0.5"
        in (refused.stderr)
    )
    assert refused.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (copy / "study").iterdir()} == before


def test_rows_come_from_another_machine_and_strangers_are_refused(
    done: Path, copy: Path, paribus: Run, tmp_path: Path
) -> None:
    for name in ("results.jsonl", "runs"):
        path = copy / "study" / name if name != "runs" else copy / "runs"
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    runs = [str(path.parent) for path in (done / "runs" / "study").glob("*/DONE")]
    taken = paribus("study", "import", "study", *runs, cwd=copy)
    assert taken.returncode == 0, taken.stderr
    assert "2 of 2 rows are new" in taken.stdout
    assert numbers(copy) == numbers(done)
    stranger = tmp_path / "stranger"
    shutil.copytree(runs[0], stranger)
    config = (stranger / "config.yaml").read_text()
    (stranger / "config.yaml").write_text(config.replace("lr: 0.01", "lr: 0.02"))
    summary = json.loads((stranger / "summary.json").read_text())
    (stranger / "summary.json").write_text(json.dumps({**summary, "id": "0123456789ab"}))
    before = (copy / "study" / "results.jsonl").read_bytes()
    refused = paribus("study", "import", "study", str(stranger), cwd=copy)
    assert refused.returncode == 2
    assert "recipe 0123456789ab is not in the plan; its nearest arm is" in refused.stderr
    assert "optimizer.lr is 0.01 in the plan, 0.02 here" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert (copy / "study" / "results.jsonl").read_bytes() == before


def test_a_failing_cell_ends_in_3_with_the_end_of_its_log(tmp_path: Path, paribus: Run) -> None:
    written(
        tmp_path / "study",
        seeds=1,
        retries=0,
        recipe=["experiment=smoke", "steps=20ba", "optimizer=sgd"],
        arms={"sound": ["optimizer.lr=0.1"], "wild": ["optimizer.lr=1e30"]},
    )
    told = paribus("study", "run", "study", "--workers", "2", cwd=tmp_path)
    assert told.returncode == 3, told.stderr
    assert "1 of 2 done" in told.stdout
    assert "1 failed:" in told.stderr
    assert "  wild/s0: the " in told.stderr
    assert "    | paribus: " in told.stderr
    assert "is not finite" in told.stderr
    assert "Traceback" not in told.stderr
    assert [(row.cell, row.state) for row in rows(tmp_path)] == [("sound/s0", "done"), ("wild/s0", "failed")]
    status = paribus("study", "status", "study", cwd=tmp_path)
    assert "failed: wild/s0: " in status.stdout


def test_ctrl_c_and_sigkill_of_the_launcher_lose_nothing(tmp_path: Path) -> None:
    written(tmp_path / "study", seeds=1, recipe=LONG)
    first = launch(tmp_path, "--workers", "2", stdout=subprocess.PIPE)
    until(lambda: starts(tmp_path) == [1, 1])
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=30)
    assert first.returncode == 75
    assert "detached, 2 still running: paribus study run study finds them" in out
    second = launch(tmp_path, "--workers", "2", stdout=subprocess.PIPE)
    assert second.stdout is not None
    while "running" not in second.stdout.readline():  # its first line says what it found
        pass
    second.kill()
    second.communicate()
    third = launch(tmp_path, "--workers", "2", stdout=subprocess.PIPE)
    out, _ = third.communicate(timeout=120)
    assert third.returncode == 0
    assert "2 of 2 done" in out
    assert starts(tmp_path) == [1, 1]
    assert [row.segments for row in rows(tmp_path)] == [1, 1]


def test_a_time_limit_stops_training_with_a_checkpoint_and_the_next_launch_goes_on(
    tmp_path: Path, paribus: Run
) -> None:
    study = written(tmp_path / "study", seeds=1, recipe=LONG)
    told = paribus("study", "plan", "study", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    runs = tmp_path / "runs" / "study"

    def launcher(stop: LaunchStop) -> Launch:
        return Launch(study, require_plan(study), LaunchSettings(runs, 2), LaunchProgress(), stop)

    stop = LaunchStop()
    made = launcher(stop)
    with ThreadPoolExecutor(1) as aside:
        outcome = aside.submit(made.run)
        until(lambda: outcome.done() or any(runs.glob("*/checkpoints/step_*.pt")))
        stop.deadline = time.monotonic()
        outcome.result(90)
    assert made.is_unfinished()
    assert (made.children, made.stopping, made.failed) == ({}, {}, {})
    assert all("\n== ended with 75 " in text for text in logs(tmp_path).values())
    again = launcher(LaunchStop())
    again.run()
    assert len(again.done) == 2
    assert starts(tmp_path) == [2, 2]
    assert max(row.segments for row in rows(tmp_path)) == 2


@pytest.mark.slow
def test_the_end_of_the_terminal_does_not_end_the_study(tmp_path: Path) -> None:
    """A logout: the kernel sends SIGHUP to the launcher, and writing to the terminal becomes an error."""
    written(tmp_path / "study", seeds=2)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "paribus.cli", "study", "run", "study", "--workers", "2"])
    until(lambda: bool(starts(tmp_path)))
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "4 of 4 done" in (tmp_path / "runs" / "study" / "launch.log").read_text()
    assert len(rows(tmp_path)) == 4


@pytest.mark.slow
def test_two_launchers_at_once_never_run_a_cell_twice(tmp_path: Path) -> None:
    written(tmp_path / "study", seeds=3)
    both = [launch(tmp_path, "--workers", "2", stdout=subprocess.PIPE) for _ in range(2)]
    outs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert starts(tmp_path) == [1] * 6
    assert len(rows(tmp_path)) == 6


def children(folder: Path) -> list[int]:
    """The processes that train in this folder."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                b"train" in (path / "cmdline").read_bytes().split(b"\0")
                and (path / "cwd").resolve() == folder.resolve()
            ):
                found.append(int(path.name))
    return found


@pytest.mark.slow
def test_launcher_and_cells_killed_at_random_moments_give_the_same_rows(tmp_path: Path) -> None:
    for name in ("undisturbed", "killed"):
        written(tmp_path / name / "study", seeds=3, recipe=[*LONG, "model.dropout=0.1"])
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert launch(undisturbed, "--workers", "2").wait(600) == 0
    dice, ended, kills = random.Random(6), 0, 0
    while ended < 3:
        process = launch(killed, "--workers", "2")
        until(lambda: bool(children(killed)))
        time.sleep(dice.uniform(2, 12))
        victims = children(killed)
        if dice.random() < 0.7:
            process.kill()  # first, or it would start them again at once
        for victim in victims:
            if dice.random() < 0.7:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
        process.kill()
        process.wait()
        ended += 1
    print(f"\n{kills} cells and 3 launchers killed; starts {starts(killed)}")
    assert kills >= 2
    assert launch(killed, "--workers", "2").wait(600) == 0
    assert numbers(killed) == numbers(undisturbed)
    assert len(rows(killed)) == 6
    for folder in (killed / "runs" / "study").glob("*/"):
        started = [
            segment["start_step"] for segment in json.loads((folder / "provenance.json").read_text())["segments"]
        ]
        assert max(started) < 600, "none was started again after its end"
    for text in logs(killed).values():
        assert text.count("\n== ended with 0 ") <= 1
    print(f"segments {[row.segments for row in rows(killed)]}, starts {starts(killed)}")

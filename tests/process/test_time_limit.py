"""`paribus study run --for TIME` with cells that only pretend to train: who is stopped, who is not, what is said."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from helpers.launchers import has_begun, launch, launch_apart, launched, runs_of, starts, until
from helpers.pretended_cells import pretend
from helpers.studies import made_up_plan, written
from paribus.cli.main import dispatch
from paribus.core.lock import locked
from paribus.study.plan import Plan
from paribus.study.runner import cells
from paribus.study.runner.cells import read_state
from paribus.study.runner.launcher import Launch
from paribus.study.runner.launchers import registered
from paribus.study.runner.signals import LaunchStop, request_checkpoint
from paribus.study.runner.slots import LaunchSettings
from paribus.study.spec import Study

FIRST = ("baseline/s0", "cutmix/s0")  # those that two workers begin with
OTHERS = ("baseline/s1", "cutmix/s1")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """In the end no cell waits any longer."""
    made = written(tmp_path / "study")
    yield made
    runs_of(made).mkdir(exist_ok=True)
    (runs_of(made) / "go").touch()


@pytest.fixture
def plan(study: Study) -> Plan:
    return made_up_plan(study)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], study: Study, plan: Plan) -> Iterator[Run]:
    """`paribus study run` with options: its exit code, and what it printed. Composing does nothing."""
    monkeypatch.chdir(study.folder.parent)
    monkeypatch.setattr("paribus.cli.study.run.compose", lambda args: 0)
    handled = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in handled}

    def call(*options: str) -> tuple[int, str]:
        code = dispatch(["study", "run", "study", "--runs", "runs", *options])
        out, err = capsys.readouterr()
        return code, out + err

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def timed(study: Study, plan: Plan, up: Callable[[], bool], **settings: object) -> Launch:
    """A launcher whose time is up as soon as this holds, and that has ended then."""
    stop = LaunchStop()
    made = launch(study, plan, leave=stop, **settings)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as aside:
        outcome = aside.submit(made.run)
        until(up)
        stop.deadline = time.monotonic()
        outcome.result(60)
    return made


def end_time(monkeypatch: pytest.MonkeyPatch, up: Callable[[], bool]) -> None:
    """Let the time of a launcher be up as soon as this holds."""
    since: list[float] = []

    def seconds_over(self: LaunchStop) -> float:
        if not since and up():
            since.append(time.monotonic())
        return time.monotonic() - since[0] if since else -1.0

    monkeypatch.setattr(LaunchStop, "seconds_over", seconds_over)


def state(study: Study, plan: Plan, name: str) -> str:
    return read_state(runs_of(study), plan.by_name()[name]).state


def last_line(study: Study, plan: Plan, name: str) -> str:
    return cells.read_last_lines(cells.log_path(runs_of(study), plan.by_name()[name]), 1)[0]


def test_running_cells_stop_with_a_checkpoint_and_no_other_starts(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {name: ["go+done"] for name in FIRST})
    made = timed(study, plan, lambda: all(has_begun(study, plan, name) for name in FIRST))
    assert made.is_unfinished()
    assert (made.children, made.stopping, made.failed, made.done) == ({}, {}, {}, set())
    said = capsys.readouterr().out
    for name in FIRST:
        assert last_line(study, plan, name).startswith("== ended with 75 ")
        assert f"stopped  {name}: with a checkpoint at step 7\n" in said
    assert list(starts(study, plan).values()) == [1, 0, 1, 0]
    (runs_of(study) / "go").touch()
    again = launched(study, plan)
    assert len(again.done) == 4
    assert list(starts(study, plan).values()) == [2, 1, 2, 1]


def test_a_cell_that_ends_by_itself_is_done_and_when_all_are_nothing_is_left(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ignore SIGTERM, and their last step comes within the grace."""
    pretend(monkeypatch, {name: ["go+deaf"] for name in FIRST})

    def ended(names: tuple[str, ...]) -> bool:
        ready = all(has_begun(study, plan, name) for name in names)
        if ready:
            (runs_of(study) / "go").touch()
        return ready

    made = timed(study, plan, lambda: ended(FIRST))
    assert made.done == {*FIRST}
    assert len(made.waiting) == 2
    (runs_of(study) / "go").unlink()
    pretend(monkeypatch, {name: ["go+deaf"] for name in OTHERS})
    assert not timed(study, plan, lambda: ended(OTHERS)).is_unfinished(), "so the command ends with 0"


def test_one_that_does_not_stop_is_left_after_the_grace(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {FIRST[0]: ["go+deaf"], FIRST[1]: ["go+done"]})
    up = lambda: all(has_begun(study, plan, name) for name in FIRST)  # noqa: E731
    made = timed(study, plan, up, grace_s=3.0)
    assert [*made.stopping] == [*made.children] == [FIRST[0]]
    assert state(study, plan, FIRST[0]) == "running"
    assert made.stop.seconds_over() >= 3.0
    (runs_of(study) / "go").touch()
    assert made.children[FIRST[0]].process.wait(60) == 0


def test_one_that_was_still_starting_has_not_failed(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, {FIRST[0]: ["go+starting"]})
    made = timed(study, plan, lambda: starts(study, plan)[FIRST[0]] == 1, workers=1)
    assert "stopped  baseline/s0: before its first checkpoint" in capsys.readouterr().out
    assert last_line(study, plan, FIRST[0]).startswith("== ended with -15 ")
    assert state(study, plan, FIRST[0]) == "waiting"
    assert not made.failed
    # the negative control: SIGTERM from elsewhere counts as a failure, as any death
    (cell,) = (cell for cell in plan.cells if cell.name == FIRST[0])
    assert cells.explain_exit(runs_of(study), cell, read_state(runs_of(study), cell), -15) == "killed by signal 15"


def test_orphans_are_stopped_and_cells_of_others_are_not(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan, anothers, by_hand, _ = plan.cells
    script = {cell.name: ["go+done"] for cell in plan.cells}
    runs = runs_of(study)
    with launch_apart(study, {**script, orphan.name: ["go+done", "go+done"]}, workers=1):
        until(lambda: has_begun(study, plan, orphan.name))
    pretend(monkeypatch, script)
    (runs / by_hand.folder).mkdir()
    with registered(runs) as living, locked(runs / by_hand.folder):
        process = cells.start_process(runs, anothers, 1, None, started_by=living)
        assert process is not None
        until(lambda: has_begun(study, plan, anothers.name))
        made = timed(study, plan, lambda: True, workers=2)
        assert (made.stopping, made.children) == ({}, {})
        assert {*made.external_cells} == {anothers.name, by_hand.name}
        assert [state(study, plan, cell.name) for cell in plan.cells] == ["waiting", "running", "running", "waiting"]
        assert process.poll() is None
        (runs / "go").touch()
        assert process.wait(60) == 0


def test_an_orphan_that_is_still_starting_is_stopped_once_it_is_known(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is not known before it holds its run folder."""
    pretend(monkeypatch, {FIRST[0]: ["started+starting"]})
    runs, cell = runs_of(study), plan.by_name()[FIRST[0]]
    process = cells.start_process(runs, cell, 1, None, started_by="host-1-0")
    assert process is not None
    made = launch(study, plan, leave=LaunchStop(time.monotonic()))
    with ThreadPoolExecutor(1) as aside:
        outcome = aside.submit(made.run)
        until(lambda: made.stopping == {FIRST[0]: 0})
        (runs / "started").touch()
        outcome.result(60)
    assert process.wait(60) == 75
    assert not made.external_cells


def test_all_done_in_time_is_0(run: Run, study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {})
    code, said = run("--for", "1h", "--workers", "2")
    assert (code, "4 of 4 done in" in said, "time is up" in said) == (0, True, False)
    assert run("--for", "1s", "--workers", "2")[0] == 0, "nothing is left to start"


def test_time_that_is_up_is_75_with_what_is_done_and_how_to_go_on(
    run: Run, study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {"cutmix/s0": ["go+done"]})
    end_time(monkeypatch, lambda: has_begun(study, plan, "cutmix/s0"))
    code, said = run("--for", "1h", "--workers", "1")
    assert code == 75
    last = said.splitlines()[-2:]
    assert last[0].startswith("the time is up: 1 of 4 done in 0:")
    assert last[1] == "stopped, nothing is running: paribus study run study --runs runs resumes"
    assert list(starts(study, plan).values()) == [1, 0, 1, 0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the cell outlives its launcher
def test_what_did_not_stop_is_named(run: Run, study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"baseline/s0": ["go+deaf"]})
    monkeypatch.setattr("paribus.cli.study.run.LaunchSettings", partial(LaunchSettings, grace_s=1.0))
    end_time(monkeypatch, lambda: has_begun(study, plan, "baseline/s0"))
    code, said = run("--for", "1h", "--workers", "1")
    assert code == 75
    assert "still running 1 s after SIGTERM: baseline/s0\n" in said
    assert "detached, 1 still running: paribus study run study --runs runs finds them; kill " in said
    (runs_of(study) / "go").touch()
    until(lambda: state(study, plan, "baseline/s0") == "done")


def test_composing_counts(run: Run, study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {})

    def compose(args: object) -> int:
        time.sleep(1.1)
        return 0

    monkeypatch.setattr("paribus.cli.study.run.compose", compose)
    code, said = run("--for", "1s", "--workers", "2")
    assert (code, sum(starts(study, plan).values())) == (75, 0)
    assert "the time is up: 0 of 4 done" in said
    assert run("--for", "1h", "--workers", "2")[0] == 0


def test_only_a_process_in_a_session_of_its_own_is_asked() -> None:
    code = "import signal, sys, time; print('ready', flush=True); time.sleep(60)"
    for apart in (True, False):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=apart) as process:
            assert process.stdout is not None
            process.stdout.readline()
            request_checkpoint(process.pid)
            if apart:
                assert process.wait(60) == -signal.SIGTERM
            else:
                os.kill(process.pid, signal.SIGKILL)
                assert process.wait(60) == -signal.SIGKILL, "the first signal to end it"
    request_checkpoint(process.pid)  # there is no such process, and nothing happens

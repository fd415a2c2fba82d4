"""Two launchers on the same runs: whose cells count against whose workers, who starts what, and what is left behind."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.launchers import has_begun, launch, launch_apart, launched, runs_of, starts, until
from helpers.pretended_cells import pretend
from helpers.studies import made_up_plan, written
from paribus.cli.main import dispatch
from paribus.study.plan import Plan
from paribus.study.rows import read_rows
from paribus.study.runner import cells
from paribus.study.runner.cells import CellState, read_state
from paribus.study.runner.launcher import Launch
from paribus.study.runner.launchers import is_anothers, registered
from paribus.study.runner.slots import LaunchSettings, find_slot
from paribus.study.spec import Study

WAITS = {f"{arm}/s{seed}": ["go+done"] for arm in ("baseline", "cutmix") for seed in (0, 1)}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return written(tmp_path / "study")


@pytest.fixture
def plan(study: Study) -> Plan:
    return made_up_plan(study)


@pytest.fixture
def aside(study: Study) -> Iterator[ThreadPoolExecutor]:
    """Threads for launchers; in the end their cells no longer wait."""
    with ThreadPoolExecutor() as threads:
        yield threads
        let_cells_go(study)


def let_cells_go(study: Study) -> None:
    runs_of(study).mkdir(exist_ok=True)  # On a busy machine no launcher may have made it yet.
    (runs_of(study) / "go").touch()


def running(study: Study, plan: Plan) -> int:
    return sum(read_state(runs_of(study), cell).state == "running" for cell in plan.cells)


def polled(made: Launch) -> None:
    """Wait until a launcher has looked twice at the cells of others, and so has had its chance to start one."""
    for _ in range(2):
        seen = made.last_poll
        until(lambda seen=seen: made.last_poll != seen)  # type: ignore[misc]


def all_done(study: Study, plan: Plan, *outcomes: Future[None]) -> None:
    let_cells_go(study)
    for outcome in outcomes:
        outcome.result(60)
    assert set(starts(study, plan).values()) == {1}
    assert len(read_rows(study.results_path)) == 4
    assert not list(runs_of(study).glob("*.launcher*")), "none is left when they have ended"


def test_many_share_the_work(
    study: Study, plan: Plan, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {cell.name: ["0.3+done"] for cell in plan.cells})
    made = [launch(study, plan) for _ in range(3)]
    all_done(study, plan, *[aside.submit(one.run) for one in made])
    assert [len(one.done) for one in made] == [4, 4, 4]
    assert not any(one.failed for one in made)


def test_with_one_worker_each_they_run_two_cells_at_a_time(
    study: Study, plan: Plan, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, WAITS)
    made = [launch(study, plan, workers=1) for _ in range(2)]
    outcomes = [aside.submit(one.run) for one in made]
    until(lambda: running(study, plan) == 2)
    for one in made:
        polled(one)
    assert starts(study, plan) == {"baseline/s0": 1, "cutmix/s0": 1, "baseline/s1": 0, "cutmix/s1": 0}, "and no third"
    all_done(study, plan, *outcomes)


def test_one_that_fills_the_machine_counts_the_cells_of_others(
    study: Study, plan: Plan, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above: the second waits where every cell counts."""
    pretend(monkeypatch, WAITS)
    first, second = launch(study, plan, workers=1), launch(study, plan, workers=1, fill=True)
    outcomes = [aside.submit(first.run)]
    until(lambda: running(study, plan) == 1)
    outcomes.append(aside.submit(second.run))
    polled(second)
    assert sum(starts(study, plan).values()) == 1
    all_done(study, plan, *outcomes)


def test_the_cell_of_a_killed_launcher_counts(
    study: Study, plan: Plan, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with launch_apart(study, WAITS, workers=1):
        until(lambda: has_begun(study, plan, "baseline/s0"))
        now = read_state(runs_of(study), plan.cells[0])
        assert is_anothers(runs_of(study), now, ""), "as long as it lives"
    assert not is_anothers(runs_of(study), now, "")
    pretend(monkeypatch, WAITS)
    made = launch(study, plan, workers=1)
    outcome = aside.submit(made.run)
    until(lambda: "baseline/s0" in made.external_cells)
    polled(made)
    assert sum(starts(study, plan).values()) == 1
    all_done(study, plan, outcome)


def test_two_processes_with_one_worker_each(study: Study, plan: Plan) -> None:
    with launch_apart(study, WAITS, workers=1) as first, launch_apart(study, WAITS, workers=1) as second:
        until(lambda: running(study, plan) == 2)
        let_cells_go(study)
        assert (first.wait(60), second.wait(60)) == (0, 0)
    all_done(study, plan)


def test_files_of_killed_launchers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "host-1-0.launcher").touch()
    with registered(tmp_path) as first, registered(tmp_path) as second:
        assert first != second, "though the process is the same"
        assert {path.name for path in tmp_path.iterdir()} == {f"{first}.launcher", f"{second}.launcher"}
        assert is_anothers(tmp_path, CellState("running", launcher=first), second)
        assert not is_anothers(tmp_path, CellState("running", launcher=first), first)
        assert not is_anothers(tmp_path, CellState("running", launcher="host-1-0"), second)
        assert not is_anothers(tmp_path, CellState("running"), second), "started by hand"
    assert not list(tmp_path.iterdir())


def test_a_gpu_in_use_is_in_use_whoever_uses_it(tmp_path: Path) -> None:
    with registered(tmp_path) as other:
        theirs = CellState("running", device="4", launcher=other)
        ask = LaunchSettings(tmp_path, 1, gpus=("4", "7"))
        assert find_slot(ask, True, [], [theirs], "ours") == (True, "7")
        assert find_slot(ask, False, [], [theirs], "ours") == (True, None), "a cell on the CPU needs none"
        assert find_slot(ask, True, ["7"], [theirs], "ours") == (False, None), "no worker is left"
        assert find_slot(LaunchSettings(tmp_path, 1, gpus=("4",)), True, [], [theirs], "ours") == (False, None)
    assert find_slot(ask, True, [], [theirs], "ours") == (False, None), "an orphan by now, which counts"
    assert find_slot(ask, True, [], [], "ours") == (True, "4")


def test_a_log_says_which_launcher_however_much_was_printed_since(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, cell = runs_of(study), plan.cells[0]
    pretend(monkeypatch, WAITS)
    for name in ("first-1-0", "second-2-0"):
        process = cells.start_process(runs, cell, 1, "3", started_by=name)
        assert process is not None
        with open(cells.log_path(runs, cell), "a") as log:
            log.write("a line\n" * 100_000)
        now = read_state(runs, cell)
        assert (now.state, now.device, now.launcher) == ("running", "3", name)
        assert now.since > 0
        process.kill()
        process.wait()


def test_a_run_by_hand_has_no_launcher_whatever_an_earlier_start_had(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paribus.core.lock import locked

    runs, cell = runs_of(study), plan.cells[0]
    pretend(monkeypatch, {cell.name: ["requeue"]})
    process = cells.start_process(runs, cell, 1, None, started_by="first-1-0")
    assert process is not None
    assert process.wait() == 75
    with locked(runs / cell.folder):
        now = read_state(runs, cell)
    assert (now.state, now.process, now.launcher) == ("running", os.getpid(), "")


def test_other_commands_do_not_trip_over_the_file(
    study: Study, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.folder.parent)
    pretend(monkeypatch, {})
    launched(study, plan)
    capsys.readouterr()

    def told() -> list[tuple[int, str]]:
        commands = ["clean", "runs", "--yes"], ["list", "runs", "runs"], ["study", "status", "study", "--runs", "runs"]
        return [(dispatch(command), capsys.readouterr().out) for command in commands]

    before = told()
    with registered(runs_of(study)) as name:
        assert told() == before
        assert (runs_of(study) / f"{name}.launcher").exists()

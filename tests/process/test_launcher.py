"""The launcher, with cells that only pretend: who starts what, what is tried again, what is left alone."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from helpers.launchers import launch, launched, runs_of, starts, until
from helpers.pretended_cells import pretend
from helpers.studies import finished, made_up_plan, row, written
from paribus.core.errors import ConfigError
from paribus.study import rows as rows_file
from paribus.study.plan import Cell
from paribus.study.runner import cells
from paribus.study.runner.progress import LaunchProgress
from paribus.study.runner.signals import LaunchStop
from paribus.study.spec import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return written(tmp_path / "study")


def recorded(study: Study) -> dict[str, str]:
    return {r.cell: r.state for r in rows_file.read_rows(study.results_path)}


def test_every_cell_runs_once_and_running_again_starts_nothing(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {})
    for _ in range(2):
        made = launched(study, plan)
        assert made.done == {cell.name for cell in plan.cells}
        assert not made.failed
        assert set(starts(study, plan).values()) == {1}
    assert [r.cell for r in rows_file.read_rows(study.results_path)] == [cell.name for cell in plan.cells]
    assert [r.metrics["val/acc1"] for r in rows_file.read_rows(study.results_path)] == [0.5, 0.51, 0.5, 0.51]


def test_all_arms_of_a_seed_start_before_those_of_the_next(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    started: list[str] = []

    def start(runs: Path, cell: Cell, *_: object, **__: object) -> subprocess.Popen[bytes]:
        finished(runs / cell.folder, cell)
        started.append(cell.name)
        return subprocess.Popen(["true"])

    def order() -> list[str]:
        started.clear()
        launched(study, plan, workers=1, repeat=True)  # whose rows are not the study's
        shutil.rmtree(runs_of(study))
        return [*started]

    monkeypatch.setattr(cells, "start_process", start)
    assert order() == ["baseline/s0", "cutmix/s0", "baseline/s1", "cutmix/s1"]
    monkeypatch.setattr("paribus.study.runner.launcher.order_cells", tuple)
    assert order() == ["baseline/s0", "baseline/s1", "cutmix/s0", "cutmix/s1"], "the plan's own order is another"


def test_only_what_is_missing_runs(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {})
    imported, here, _, _ = plan.cells
    finished(study.folder.parent / "runs" / here.folder, here)
    rows_file.update_rows(study, [row(imported, hardware={"cpu": "elsewhere"})], {})
    launched(study, plan)
    assert list(starts(study, plan).values()) == [0, 0, 1, 1]
    rows = rows_file.read_rows(study.results_path)
    assert rows[0].hardware == {"cpu": "elsewhere"}, "rows of other machines stay"
    assert len(rows) == 4


def test_a_failing_cell_is_tried_again_and_then_listed(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {"cutmix/s0": ["fail", "fail"], "cutmix/s1": ["fail"], "baseline/s0": ["die"]})
    made = launched(study, plan)
    assert made.failed == {"cutmix/s0": "the loss is not finite"}
    assert starts(study, plan) == {"baseline/s0": 2, "baseline/s1": 1, "cutmix/s0": 2, "cutmix/s1": 2}
    assert recorded(study) == {"baseline/s0": "done", "baseline/s1": "done", "cutmix/s0": "failed", "cutmix/s1": "done"}
    out = capsys.readouterr().out
    assert "retry    baseline/s0: killed by signal 9" in out
    assert "FAILED   cutmix/s0: the loss is not finite" in out
    assert not launched(study, plan).failed, "started again by hand, it has its chances again"
    assert recorded(study)["cutmix/s0"] == "done"


def test_a_cell_that_ends_without_being_done_has_failed(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {"cutmix/s1": ["silent", "silent"]})
    assert "exited with 0, but made-up-cutmix-s1 is not done" in launched(study, plan).failed["cutmix/s1"]


def test_input_that_is_refused_is_not_tried_again_nor_for_other_seeds(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {"baseline/s0": ["refuse"]})
    made = launched(study, plan, workers=1)
    assert made.failed["baseline/s0"] == "paribus: optimizer.lr: found -1; should be greater than 0"
    assert "not started, since baseline was refused" in made.failed["baseline/s1"]
    assert list(starts(study, plan).values()) == [1, 0, 1, 1]


def test_a_cell_that_stopped_with_a_checkpoint_goes_on(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {"baseline/s0": ["requeue"] * 4})
    made = launched(study, plan)
    assert len(made.done) == 4
    assert starts(study, plan)["baseline/s0"] == 5, "more often than a failure would be retried"
    assert "retry    baseline/s0: stopped before its first checkpoint" in capsys.readouterr().out


def test_a_run_started_by_hand_is_waited_for(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no log of ours, just the run folder's lock."""
    plan = made_up_plan(study)
    pretend(monkeypatch, {})
    cell = plan.cells[0]
    runs = study.folder.parent / "runs"
    (runs / cell.folder).mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from paribus.core.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    by_hand = subprocess.Popen([sys.executable, "-c", code, str(runs / cell.folder)], stdout=subprocess.PIPE)
    assert by_hand.stdout is not None
    by_hand.stdout.readline()

    def end() -> None:
        time.sleep(1)
        finished(runs / cell.folder, cell)
        by_hand.kill()

    threading.Thread(target=end).start()
    made = launched(study, plan)
    by_hand.wait()
    by_hand.stdout.close()
    assert len(made.done) == 4
    assert list(starts(study, plan).values()) == [0, 1, 1, 1]


def test_leaving_lets_cells_go_on_and_the_next_launch_finds_them(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {cell.name: ["go+done"] for cell in plan.cells})
    leave = LaunchStop()

    def end() -> None:
        until(lambda: sum(starts(study, plan).values()) == 2)
        leave.requested = True

    threading.Thread(target=end).start()
    first = launched(study, plan, leave=leave)
    assert sorted(first.children) == ["baseline/s0", "cutmix/s0"], "both arms of the first seed"
    for child in first.children.values():
        assert os.getpgid(child.process.pid) == child.process.pid, "a group of its own"
        assert os.getsid(child.process.pid) == child.process.pid, "out of reach of the terminal"
    (runs_of(study) / "go").touch()
    second = launched(study, plan)
    assert len(second.done) == 4
    assert set(starts(study, plan).values()) == {1}
    for child in first.children.values():
        assert child.process.wait() == 0


def test_a_cell_is_seen_before_it_holds_its_run_folder(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    runs = study.folder.parent / "runs"
    monkeypatch.setattr(
        cells, "build_command", lambda runs, cell: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    process = cells.start_process(runs, plan.cells[0], 1, "3")
    assert process is not None
    now = cells.read_state(runs, plan.cells[0])
    assert (now.state, now.device) == ("running", "3")
    assert abs(now.since - time.time()) < 5
    assert cells.start_process(runs, plan.cells[0], 1, None) is None, "nor is it started twice"
    process.kill()
    process.wait()
    assert cells.read_state(runs, plan.cells[0]).state == "waiting"


def test_one_cell_a_gpu(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study, device="auto")
    pretend(monkeypatch, {cell.name: ["0.5+done"] for cell in plan.cells})
    launched(study, plan, workers=4, gpus=["4", "7"])
    told = [cells.read_last_lines(cells.log_path(study.folder.parent / "runs", cell), 2)[0] for cell in plan.cells]
    assert [line.split("CUDA_VISIBLE_DEVICES=")[1][0] for line in told[::2]] == ["4", "7"], "of the first seed"
    assert all("CUDA_VISIBLE_DEVICES=" in line for line in told)
    assert all("OMP_NUM_THREADS=1 " in line for line in told)


def test_a_damaged_summary_is_told_and_costs_no_other_row(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {})
    cell = plan.cells[0]
    finished(study.folder.parent / "runs" / cell.folder, cell)
    (study.folder.parent / "runs" / cell.folder / "summary.json").write_text("{")
    launched(study, plan)
    assert "baseline/s0 gets no new row" in capsys.readouterr().out
    assert len(recorded(study)) == 3


def test_a_disk_that_is_full_is_one_line_and_the_record_stays(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)
    pretend(monkeypatch, {})
    rows_file.update_rows(study, [row(plan.cells[0])], {})
    before = study.results_path.read_bytes()

    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paribus.core.runfolder.write_atomically", full)
    made = launch(study, plan)
    with pytest.raises(ConfigError, match=r"results.jsonl cannot be written: No space left on device; make room"):
        made.run()
    assert study.results_path.read_bytes() == before
    for child in made.children.values():
        child.process.wait()


def test_hanging_up_is_no_reason_to_leave(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    leave = LaunchStop()
    leave.listen(tmp_path / "launch.log")
    os.kill(os.getpid(), signal.SIGHUP)
    assert leave.hung_up
    assert not leave.requested
    os.kill(os.getpid(), signal.SIGTERM)
    assert leave.requested
    signal.signal(signal.SIGHUP, before)


def test_a_log_that_cannot_be_written_is_one_line_too(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_up_plan(study)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cells, "start_process", full)
    with pytest.raises(
        ConfigError, match="runs cannot be written: No space left on device; make room, or choose another"
    ):
        launched(study, plan)
    assert starts(study, plan) == dict.fromkeys(starts(study, plan), 0)


def test_on_a_terminal_there_is_a_bar_below_the_lines(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "paribus.study.runner.progress.find_console", lambda: Console(file=screen, force_terminal=True, width=90)
    )
    plan = made_up_plan(study)
    board = LaunchProgress()
    board.begin(0, 0, 0, 4, 4)
    board.update(1, 2, 0, 4, 83.0)
    board.started(plan.cells[0], 1, None)
    board.done(plan.cells[0], "val/acc1", row(plan.cells[0]))
    board.failed(plan.cells[1], "[the] loss is not finite", again=False)
    board.update(1, 2, 1, 4, 83.0)
    board.detach()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "done     baseline/s0  val/acc1 0.5000" in text
    assert "FAILED   baseline/s1: [the] loss is not finite" in text
    assert "1/4 2 running, 1 failed, about 1:23 left" in text
    assert "start" not in text

"""`paribus study run --repeat` with cells that only pretend to train: what is trained, compared and left alone."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.pretended_cells import pretend
from helpers.studies import finished, made_up_plan, written
from paribus.cli.main import dispatch
from paribus.study.rows import read_row, read_rows, update_rows
from paribus.study.runner import cells
from paribus.study.slurm import queue
from paribus.study.slurm.array_task import run_cell
from paribus.study.spec import Study

Run = Callable[..., tuple[int, str]]
ALTERED = ('"val/acc1": 0.51}', '"val/acc1": 0.52}')  # the metrics of seed 1; its curves stay


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """A command of `paribus study` in an empty folder, without composing: exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paribus.cli.study.run.subprocess.call", lambda command: 0)
    before = signal.getsignal(signal.SIGHUP)

    def call(*arguments: str) -> tuple[int, str]:
        code = dispatch(["study", *arguments])
        out, err = capsys.readouterr()
        return code, out + err

    yield call
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def study(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Study:
    """Four cells that have run folders here and rows on record."""
    made = written(tmp_path / "study")
    plan, runs = made_up_plan(made), tmp_path / "runs" / "study"
    for cell in plan.cells:
        finished(runs / cell.folder, cell, 0.5 + cell.seed / 100)
    rows = [read_row(runs / cell.folder, made.name, cell.arm) for cell in plan.cells]
    update_rows(made, [row for row in rows if row], plan.ids())
    pretend(monkeypatch, {})
    return made


def starts(runs: str) -> dict[str, int]:
    """Log -> how often its cell was started."""
    return {log.stem: log.read_text().count("== start ") for log in Path(runs).glob("made-up*.log")}


def alter(study: Study) -> None:
    """The two rows of seed 1 get other metrics than a run gives."""
    text = study.results_path.read_text()
    assert text.count(ALTERED[0]) == 2
    study.results_path.write_text(text.replace(*ALTERED))


def test_every_cell_is_trained_anew_beside_the_rows_on_record(run: Run, study: Study) -> None:
    rows, here = study.results_path.read_bytes(), starts("runs/study")
    for number in (1, 2):
        code, said = run("run", "study", "--repeat", "--workers", "4")
        assert code == 0
        assert f"repeat-{number}: begins in runs/study/repeat-{number}" in said
        assert "4 cells: 0 done, 0 running, 4 to run" in said
        assert f"repeat-{number}: of 4 cells trained in it, 4 equal their rows on record bit for bit" in said
        assert list(starts(f"runs/study/repeat-{number}").values()) == [1] * 4
        assert len(read_rows(Path(f"runs/study/repeat-{number}/results.jsonl"))) == 4
    assert study.results_path.read_bytes() == rows
    assert starts("runs/study") == here


def test_a_copy_whose_rows_differ_by_the_study_s_name_is_trained_too(run: Run, study: Study) -> None:
    shutil.copytree("study", "other")
    shutil.copytree("runs/study", "runs/other")
    rows = Path("other/results.jsonl").read_bytes()
    code, said = run("run", "other", "--repeat", "--workers", "4")
    assert (code, list(starts("runs/other/repeat-1").values())) == (0, [1] * 4)
    assert "4 equal" in said
    assert Path("other/results.jsonl").read_bytes() == rows


def test_a_difference_is_exit_4_with_the_cell_its_values_and_the_numerics(run: Run, study: Study) -> None:
    alter(study)
    text = study.results_path.read_text().replace('"fingerprint": {"threads": 1}', '"fingerprint": {"threads": 8}', 2)
    study.results_path.write_text(text)  # of the first two rows, of which one is altered
    code, said = run("run", "study", "--repeat", "--workers", "4")
    assert code == 4
    assert "2 equal their rows on record" in said
    assert "2 differ" in said
    lines = [line for line in said.splitlines() if line.startswith("differs: ")]
    assert lines == [
        "differs: baseline/s1: val/acc1 (0.52 on record, 0.51 here); which may come of other numerics: threads (8 on "
        "record, 1 here)",
        "differs: cutmix/s1: val/acc1 (0.52 on record, 0.51 here); under the same numerics fingerprint, so this should "
        "not be",
    ]
    assert study.results_path.read_text() == text
    kept = json.loads(Path("runs/study/repeat-1/comparison.json").read_text())["cells"]
    assert [one["result"] for one in kept] == ["equal", "different", "equal", "different"]


def test_failed_cells_are_exit_3_and_the_repeat_goes_on_with_them(
    run: Run, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(study)
    pretend(monkeypatch, {"cutmix/s0": ["fail", "fail"]})
    code, said = run("run", "study", "--repeat", "--workers", "4")
    assert code == 3
    assert "of 3 cells trained in it, 1 equal" in said
    code, said = run("run", "study", "--repeat", "--workers", "4")
    assert code == 4
    assert "repeat-1: goes on in runs/study/repeat-1" in said
    assert "of 4 cells trained in it, 2 equal" in said
    assert starts("runs/study/repeat-1")["made-up-cutmix-s0"] == 3
    assert sorted(starts("runs/study/repeat-1").values()) == [1, 1, 1, 3]
    assert "0 failed" not in study.results_path.read_text()
    assert {row.state for row in read_rows(study.results_path)} == {"done"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the cells outlive their launcher
def test_a_stopped_repeat_goes_on_in_its_folder_and_claims_nothing_before(
    run: Run, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {f"{arm}/s{seed}": ["2+done"] for arm in ("baseline", "cutmix") for seed in (0, 1)})
    runs = study.folder.parent / "runs" / "study" / "repeat-1"

    def start(*arguments: object, **options: object) -> object:
        """The first cell has started: Ctrl-C."""
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
        return start_process(*arguments, **options)  # type: ignore[arg-type]

    start_process = cells.start_process
    monkeypatch.setattr(cells, "start_process", start)
    code, said = run("run", "study", "--repeat", "--workers", "2")
    assert code == 75
    assert "equal" not in said
    assert "paribus study run study --repeat finds them" in said
    monkeypatch.setattr(cells, "start_process", start_process)
    code, said = run("run", "study", "--repeat", "--workers", "4")
    assert code == 0
    assert "repeat-1: goes on in runs/study/repeat-1" in said
    assert "4 equal" in said
    assert list(starts(str(runs)).values()) == [1] * 4


def test_what_has_no_row_is_trained_and_said_to_have_nothing_to_compare_with(run: Run, study: Study) -> None:
    study.results_path.write_text("".join(study.results_path.read_text().splitlines(keepends=True)[:3]))
    code, said = run("run", "study", "--repeat", "--workers", "4")
    assert code == 0
    assert "3 equal" in said
    assert "nothing on record: cutmix/s1" in said
    assert len(read_rows(study.results_path)) == 3


def test_status_of_a_repeat_counts_no_row_as_done(run: Run, study: Study) -> None:
    Path("runs/study/repeat-1").mkdir()
    code, said = run("status", "study", "--repeat")
    assert code == 0
    assert said.startswith("repeat-1: in runs/study/repeat-1\n")
    assert said.splitlines()[-1].split() == ["all", "4", "0", "0", "0", "4"]
    assert run("status", "study")[1].splitlines()[-1].split() == ["all", "4", "4", "0", "0", "0"]


def test_status_says_when_there_is_no_repeat(run: Run, study: Study) -> None:
    code, said = run("status", "study", "--repeat", "--runs", "runs/study")
    assert code == 2
    assert "has no repeat yet; paribus study run study --runs runs/study --repeat begins one" in said


def test_on_a_cluster_the_second_call_compares(run: Run, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[str] = []

    def submit(study: Study, plan: object, runs: Path, missing: list[object], job: object) -> list[str]:
        scripts.append(queue.script.build_script(job, study, runs, missing))  # type: ignore[arg-type]
        return ["7"]

    monkeypatch.setattr(queue, "submit", submit)
    rows = study.results_path.read_bytes()
    code, said = run("run", "study", "--repeat", "--cluster", "slurm")
    assert code == 0
    assert "4 cells: 0 done, 0 running, 0 pending, 0 requeued, 4 submitted as job 7" in said
    assert "paribus study status study --repeat reports their state" in said
    assert "equal" not in said
    assert f"--runs {Path('runs/study/repeat-1').absolute()} --repeat --cell" in scripts[0]
    plan = made_up_plan(study)
    for cell in plan.cells[:3]:
        assert run_cell(study, plan, Path("runs/study/repeat-1"), cell, repeat=True) == 0
    finished(Path("runs/study/repeat-1") / plan.cells[3].folder, plan.cells[3], 0.7)  # which wrote no row
    assert run("status", "study", "--repeat")[0] == 0
    code, said = run("run", "study", "--repeat", "--cluster", "slurm")
    assert code == 4
    assert "of 4 cells trained in it, 3 equal" in said
    assert study.results_path.read_bytes() == rows
    assert len(read_rows(Path("runs/study/repeat-1/results.jsonl"))) == 4
    assert len(scripts) == 1
    assert cells.log_path(Path("runs/study/repeat-1"), plan.cells[0]).exists()


def test_the_plan_of_a_repeat_counts_what_it_would_train(
    run: Run, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paribus.recipe.arms.build_plan", made_up_plan)
    assert "to run" not in run("plan", "study")[1]
    code, said = run("plan", "study", "--repeat", "--workers", "2")
    assert code == 0
    assert "repeat-1: begins in runs/study/repeat-1" in said
    assert "4 to run: about 0:26 with 2 at a time" in said
    assert not Path("runs/study/repeat-1").exists()

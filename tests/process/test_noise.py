"""`paribus study noise` with runs that only pretend: what is run, resumed, told, and with which exit code."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pretended_cells import pretend
from helpers.studies import made_up_plan, row, written
from paribus.cli.main import dispatch
from paribus.study.load import load_study
from paribus.study.noise import open_stage
from paribus.study.rows import read_rows, update_rows
from paribus.study.runner import cells
from paribus.study.spec import Study

Run = Callable[..., tuple[int, str, str]]


def compose(command: list[str], **streams: object) -> int:
    """In place of the process that composes: `study noise FOLDER --plan --quiet --arm A --seeds N`, made up."""
    words = command[command.index("noise") + 1 :]
    folder, arm, seeds = Path(words[0]), words[words.index("--arm") + 1], int(words[words.index("--seeds") + 1])
    if "refused" in (folder / "study.yaml").read_text():
        return 2
    stage = open_stage(load_study(folder, lone=True), arm, seeds)
    stage.plan_path.parent.mkdir(exist_ok=True)
    made_up_plan(stage)
    return 0


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paribus.cli.study.noise.subprocess.call", compose)
    pretend(monkeypatch, {})
    before = signal.getsignal(signal.SIGHUP)

    def call(*words: str) -> tuple[int, str, str]:
        code = dispatch(["study", "noise", *words])
        return code, *capfd.readouterr()

    yield call
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def study(run: Run, tmp_path: Path) -> Study:
    made = written(tmp_path / "study")
    made_up_plan(made)
    return made


def starts(runs: str = "runs/study-noise") -> list[int]:
    return [log.read_text().count("== start ") for log in sorted(Path(runs).glob("*.log"))]


def test_the_baseline_runs_on_seeds_of_its_own_and_once(run: Run, study: Study) -> None:
    before = {path.name: path.read_bytes() for path in study.folder.iterdir()}
    code, out, _ = run("study", "--seeds", "4", "--workers", "2")
    assert code == 0
    rows = read_rows(study.folder / "noise" / "results.jsonl")
    assert [row.cell for row in rows] == [f"baseline/s{seed}" for seed in (2, 3, 4, 5)]
    assert "baseline against itself, on seeds 2 to 5: 52.50 % over 2 runs and 54.50 % over 2 runs" in out
    assert "Standard deviation between seeds: 1.29 points over 4 runs" in out
    assert "seeds an arm" in out
    assert {path.name: path.read_bytes() for path in study.folder.iterdir() if path.is_file()} == before
    code, again, _ = run("study")
    assert (code, starts()) == (0, [1] * 4)
    assert again.partition("Noise floor of")[2] == out.partition("Noise floor of")[2]
    assert run("study", "--seeds", "6")[0] == 0
    assert starts() == [1] * 6


def test_an_interrupt_leaves_with_75_and_the_same_command_goes_on(
    run: Run, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {f"baseline/s{seed}": ["1+done"] for seed in range(2, 6)})
    started: list[subprocess.Popen[bytes]] = []
    start = cells.start_process

    def keep(*words: Any, **named: Any) -> subprocess.Popen[bytes] | None:
        process = start(*words, **named)
        started.extend([process] if process else [])
        return process

    monkeypatch.setattr(cells, "start_process", keep)

    def interrupt() -> None:
        for _ in range(3000):  # a minute: a launch that failed starts none
            if starts():
                break
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, out, _ = run("study", "--seeds", "4", "--workers", "1")
    thread.join()
    assert code == 75
    assert "Noise floor" not in out
    assert "paribus study noise study --seeds 4 --workers 1 finds them" in out
    code, out, _ = run("study", "--seeds", "4", "--workers", "1")
    assert (code, starts()) == (0, [1] * 4)
    assert "52.50 % over 2 runs and 54.50 % over 2 runs" in out
    assert [process.wait() for process in started] == [0] * 4


def test_a_run_that_dies_is_tried_again_and_one_that_fails_is_told(
    run: Run, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {"baseline/s2": ["die"], "baseline/s4": ["fail", "fail"]})
    code, out, err = run("study", "--seeds", "6")
    assert code == 3
    assert "baseline/s4: the loss is not finite" in err
    assert "Failed: s4." in out
    assert "52.50 % over 2 runs" in out
    assert run("study")[0] == 0, "started again by hand, it has its chances again"


def test_json_on_standard_output_is_alone_there(run: Run, study: Study, tmp_path: Path) -> None:
    code, out, err = run("study", "--seeds", "4", "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert "4 of 4 done" in err
    assert (found["schema"], found["study"], found["arm"], found["seeds"]) == (1, "study", "baseline", [2, 3, 4, 5])
    assert found["comparison"]["estimate"]["mean"] == pytest.approx(-0.02)
    assert [one["n"] for one in found["detectable"]] == [2, 3, 5, 8, 10, 20, 30]
    code, out, _ = run("study", "--json", "n.json")
    assert json.loads((tmp_path / "n.json").read_text()) == found
    assert "Noise floor of val/acc1" in out


def test_the_report_of_the_study_tells_it(run: Run, study: Study, capfd: pytest.CaptureFixture[str]) -> None:
    plan = made_up_plan(study)
    update_rows(study, [row(cell, 0.5 + cell.seed / 50) for cell in plan.cells], plan.ids())
    assert dispatch(["study", "report", "study"]) == 0
    readme = study.folder / "README.md"
    assert "noise" not in readme.read_text().lower()
    assert run("study", "--seeds", "4")[0] == 0
    assert dispatch(["study", "report", "study", "--json", "r.json"]) == 0
    assert (
        "* Noise floor: two halves of 2 runs of baseline differ by 2.00 points; sd 1.29 points;" in readme.read_text()
    )
    assert "### Noise floor" in readme.read_text()
    assert json.loads(Path("r.json").read_text())["noise"]["seeds"] == [2, 3, 4, 5]


def test_a_recipe_gets_a_folder_and_keeps_it(run: Run, tmp_path: Path) -> None:
    words = ("experiment=smoke", "steps=20ba", "--margin", "0.5pt", "--seeds", "4")
    code, out, _ = run(*words)
    assert code == 0
    assert "baseline against itself, on seeds 10 to 13" in out
    assert "0.5 points, the smallest effect of interest" in out
    assert load_study(Path("noise_smoke"), lone=True).spec.recipe == ("experiment=smoke", "steps=20ba")
    assert len(read_rows(Path("noise_smoke/noise/results.jsonl"))) == 4
    assert run(*words)[0] == run("noise_smoke")[0] == 0
    assert starts("runs/noise_smoke-noise") == [1] * 4
    code, _, err = run("experiment=smoke", "steps=30ba")
    assert code == 2
    assert "noise_smoke/study.yaml: is there already and says something else" in err
    assert run("experiment=smoke", "steps=30ba", "--out", "other", "--seeds", "4")[0] == 0


def test_a_recipe_that_cannot_be_composed_leaves_nothing(run: Run, tmp_path: Path) -> None:
    assert run("experiment=smoke", "steps=refused")[0] == 2
    assert run("experiment=smoke", "steps=1ba", "steps=2ba")[0] == 2
    assert not list(tmp_path.iterdir())


MISTAKES = {
    ("experiment=smoke", "--arm", "x"): "--arm: is for a study; a recipe is one arm",
    ("experiment=smoke", "study"): "found 'study' among overrides; each should be KEY=VALUE",
    ("study", "other"): "found study other; should be one FOLDER, or overrides KEY=VALUE",
    ("study", "--margin", "1"): "--margin: is for a recipe, experiment=NAME; of a study, study.yaml says it",
    ("study", "--lower-is-better"): "--lower-is-better: is for a recipe",
    ("steps=20ba",): "without experiment=NAME the folder needs a name: --out DIR",
    ("nowhere",): "nowhere: no study there",
    ("study", "--seeds", "7"): "--seeds: found 7; should be an even number, at least 4",
    ("experiment=smoke", "seed=3"): "recipe: found 'seed=3'; a study sets this by seeds",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_mistakes_are_one_line(run: Run, study: Study, words: tuple[str, ...]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert MISTAKES[words] in err
    assert err.count("\n") == 1
    assert not Path("noise_smoke").exists()

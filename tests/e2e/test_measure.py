"""`paribus study measure` on a study that was really trained: what it adds, what it skips, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from helpers.studies import written
from paribus.cli.main import dispatch
from paribus.engine.receipt import checksums
from paribus.runs.saved_run import load_newest_checkpoint

Run = Callable[..., CompletedProcess[str]]
ALSO: list[Any] = ["minival/acc1", {"metric": "minival/loss", "higher_is_better": False}]
ON_MINIVAL = ["--evaluators", "accuracy", "evaluators.accuracy.splits=[minival]"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, paribus: Run) -> Path:
    """A folder with a finished study of two cells, which asks for two metrics that its recipe does not measure."""
    folder = tmp_path_factory.mktemp("done")
    recipe = ["experiment=smoke", "steps=4ba", "every.evaluate=4ba", "every.log=2ba", "data.minival=32"]
    written(folder / "study", seeds=1, recipe=recipe, also=ALSO)
    told = paribus("study", "run", "study", "--workers", "1", cwd=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(done, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def measure(*words: str) -> int:
    return dispatch(["study", "measure", "study", *words])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "study" / "measures.jsonl").read_text().splitlines()]


def run_folder(folder: Path, arm: str) -> Path:
    return next((folder / "runs" / "study").glob(f"*-{arm}-s0-*[0-9a-f]"))


def test_it_adds_what_is_missing_and_reports_have_it(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (copy / "study" / "results.jsonl").read_bytes()
    dispatch(["study", "plan", "study"])
    assert "no evaluator of these recipes declares minival/acc1, minival/loss" in capsys.readouterr().err
    assert measure(*ON_MINIVAL) == 0
    assert "2 of 2 cells measured" in capsys.readouterr().out
    first, second = lines(copy)
    assert [first["arm"], second["arm"]] == ["baseline", "cutmix"]
    assert sorted(first["metrics"]) == ["minival/acc1", "minival/acc5", "minival/loss"]
    assert first["config"]["splits"] == ["minival"]
    found = load_newest_checkpoint(run_folder(copy, "baseline"))
    assert found is not None
    assert first["weights"] == {"model": checksums(found.method)["model"]}
    receipts = (run_folder(copy, "baseline") / "receipts.jsonl").read_text().splitlines()
    recorded = [line["checksums"]["model"] for line in map(json.loads, receipts) if "checksums" in line]
    assert first["weights"]["model"] == recorded[-1]

    before = (copy / "study" / "measures.jsonl").read_bytes()
    assert measure(*ON_MINIVAL) == 0
    assert (copy / "study" / "measures.jsonl").read_bytes() == before
    assert (copy / "study" / "results.jsonl").read_bytes() == rows

    assert dispatch(["study", "report", "study"]) == 0
    readme = (copy / "study" / "README.md").read_text()
    assert "1 comparison × 2 metrics = 2" in readme
    assert "minival/loss ↓" in readme
    capsys.readouterr()
    dispatch(["study", "plan", "study"])
    assert "no evaluator" not in capsys.readouterr().err


def test_its_numbers_are_those_of_eval(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(*ON_MINIVAL, "--cell", "cutmix/s0", "--quiet") == 0
    (line,) = lines(copy)
    capsys.readouterr()
    dispatch(["eval", str(run_folder(copy, "cutmix")), "-q", "evaluators.accuracy.splits=[minival]"])
    told = dict(text.split() for text in capsys.readouterr().out.splitlines())
    assert told["minival/loss"] == f"{line['metrics']['minival/loss']:.6f}"


def test_a_cell_without_its_checkpoint_is_listed_and_skipped(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run_folder(copy, "baseline") / "checkpoints")
    assert measure(*ON_MINIVAL) == 0
    told = capsys.readouterr()
    assert "skipped: baseline/s0: no checkpoint of step 4" in told.err
    assert "1 of 2 cells measured" in told.out
    assert [line["arm"] for line in lines(copy)] == ["cutmix"]


def test_a_run_that_is_not_the_row_s_or_other_weights_are_not_measured(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(copy, "baseline") / "summary.json"
    summary = json.loads(path.read_text())
    summary["metrics"]["val/acc1"] += 0.01
    path.write_text(json.dumps(summary))
    assert measure(*ON_MINIVAL) == 1
    assert "has other results than the row on record" in capsys.readouterr().err
    (line,) = lines(copy)
    line |= {"weights": {"model": "0" * 64}, "evaluator": "earlier", "metrics": {"earlier/x": 1.0}, "config": {}}
    (copy / "study" / "measures.jsonl").write_text(json.dumps(line) + "\n")
    assert measure(*ON_MINIVAL, "--cell", "cutmix/s0") == 1
    assert "its weights are not those that were measured before" in capsys.readouterr().err
    assert lines(copy) == [line]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--evaluators", "acuracy"], "acuracy"),
        (["--evaluators", ","], "--evaluators: found none"),
        (["--evaluators", "accuracy", "--cell", "cutmix/s9"], "--cell: found cutmix/s9"),
        (["--evaluators", "accuracy", "data=digits"], "data: cannot be overridden here"),
        (["--evaluators", "accuracy", "evaluators.attack.steps=3"], "--evaluators names accuracy; name attack too"),
    ],
)
def test_what_has_no_place_is_refused(
    words: list[str], told: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(*words) == 2
    assert told in capsys.readouterr().err
    assert not (copy / "study" / "measures.jsonl").exists()


def test_other_settings_are_refused_and_nothing_is_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(*ON_MINIVAL, "--cell", "cutmix/s0") == 0
    before = (copy / "study" / "measures.jsonl").read_bytes()
    assert measure("--evaluators", "accuracy", "evaluators.accuracy.splits=[val]") == 2
    assert "measures.jsonl has it with splits=['minival'], and this is splits=['val']" in capsys.readouterr().err
    assert (copy / "study" / "measures.jsonl").read_bytes() == before

"""A study's results from Python: those of its report, and a look at them is put on record."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

import paribus
from paribus.core.errors import ConfigError, RunFailed
from paribus.study import results

RECORDED = Path(__file__).parents[3] / "experiments" / "quickstart"


@pytest.fixture
def study(tmp_path: Path) -> results.StudyResults:
    folder = shutil.copytree(RECORDED, tmp_path / "quickstart")
    (folder / "looks.jsonl").unlink(missing_ok=True)
    return paribus.study(folder, runs=tmp_path / "runs")


def test_rows_are_those_on_record(study: results.StudyResults) -> None:
    rows = study.rows()
    assert len(rows) == 24
    assert rows[0].keys() >= {"arm", "seed", "state", "id", "val/acc1", "train_s", "macs"}
    assert {row["arm"] for row in rows} == {"baseline", "cutmix", "adamp", "both"}
    assert repr(study).endswith("24 of 24 runs)")
    assert not (study.spec.folder / "looks.jsonl").exists(), "rows alone show no verdict"


def test_verdicts_are_those_of_the_report(study: results.StudyResults) -> None:
    said = (RECORDED / "README.md").read_text()
    verdicts = study.verdicts()
    assert [(v["arm"], v["against"]) for v in verdicts] == [(arm, "baseline") for arm in ("cutmix", "adamp", "both")]
    for verdict in verdicts:
        assert verdict["low"] <= verdict["difference"] <= verdict["high"]
        assert verdict["n"] == 6
        assert verdict["verdict"] in said


def test_a_look_is_put_on_record_once(study: results.StudyResults) -> None:
    study.verdicts()
    study.plot()
    assert (study.spec.folder / "looks.jsonl").read_text().count("\n") == 1


def test_its_picture_has_each_comparison(study: results.StudyResults) -> None:
    figure = study.plot()
    names = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    assert {"cutmix", "adamp", "both"} <= set(names)
    assert figure.get_facecolor()[3] == 1.0, "not transparent, for dark notebooks"


def test_before_the_first_run_there_are_no_rows_and_no_verdicts(study: results.StudyResults) -> None:
    (study.spec.folder / "results.jsonl").unlink()
    assert study.rows() == []
    with pytest.raises(ConfigError, match="no run is recorded yet"):
        study.verdicts()


def test_no_study_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no study there"):
        paribus.study(tmp_path)


@pytest.mark.parametrize(("code", "error"), [(0, None), (2, ConfigError), (3, RunFailed), (1, RunFailed)])
def test_running_it_shows_the_lines_and_raises_what_went_wrong(
    code: int,
    error: type[Exception] | None,
    study: results.StudyResults,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[list[str]] = []

    class Finished:
        returncode = code

        def __init__(self, command: list[str], **_: Any) -> None:
            given.append(command)
            self.stdout = io.StringIO("one line\nparibus: the reason\n")

        def __enter__(self) -> "Finished":
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(results.subprocess, "Popen", Finished)
    if error is None:
        assert study.run(workers=2) is study
    else:
        with pytest.raises(error, match=r"^the reason$"):
            study.run(workers=2)
    assert capsys.readouterr().out == "one line\nparibus: the reason\n"
    assert given[0][-4:] == ["--runs", str(study.runs), "--workers", "2"]

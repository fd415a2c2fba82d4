"""`paribus new`: what is written, and what is refused. The printed commands run in tests/process/test_extending.py."""

import shlex
from pathlib import Path

import pytest

from paribus.cli.main import dispatch
from paribus.cli.new import class_name
from paribus.study.load import load_study


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WRITTEN = {
    "technique": {"own_idea/__init__.py", "configs/technique/own_idea.yaml", "tests/test_own_idea.py"},
    "data": {"own_idea.py", "configs/data/own_idea.yaml"},
    "study": {"experiments/own_idea/study.yaml"},
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_written_is_told_and_never_overwritten(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "a lab"
    assert dispatch(["new", kind, "own_idea", "--into", "a lab"]) == 0
    written, _, commands = capfd.readouterr().out.partition("next\n")
    assert files(into) == WRITTEN[kind] == {line.strip()[len("a lab/") :] for line in written.splitlines()[1:]}
    assert shlex.split(commands.splitlines()[0].partition("  ")[2].partition("  ")[2])[-2:] == ["cd", "a lab"]
    assert not any("$" in (into / path).read_text() for path in WRITTEN[kind]), "every name is filled in"
    before = {path: (into / path).read_bytes() for path in WRITTEN[kind]}
    assert dispatch(["new", kind, "own_idea", "--into", "a lab"]) == 2
    assert "is there already" in capfd.readouterr().err
    assert {path: (into / path).read_bytes() for path in WRITTEN[kind]} == before


def test_one_file_that_is_there_stops_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_own_idea.py").write_text("mine")
    assert dispatch(["new", "technique", "own_idea"]) == 2
    assert "tests/test_own_idea.py is there already, and is not overwritten" in capfd.readouterr().err
    assert files(tmp_path) == {"tests/test_own_idea.py"}


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("technique", "Own-idea", "should be the name of a Python package"),
        ("technique", "class", "should be the name of a Python package"),
        ("data", "../out", "should be the name of a Python package"),
        ("study", "../out", "should be the name of a folder"),
        ("technique", "cutmix", "paribus has a technique=cutmix already"),
        ("data", "digits", "paribus has a data=digits already"),
        ("technique", "random", "Python has a module random already"),
        ("data", "torch", "Python has a module torch already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    kind: str, name: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["new", kind, name]) == 2
    err = capfd.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert files(tmp_path) == set()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert dispatch(["new", "study", "mine", "--into", "file"]) == 2
    assert "cannot be written: Not a directory" in capfd.readouterr().err


def test_a_study_takes_the_one_technique_that_is_there(tmp_path: Path) -> None:
    assert dispatch(["new", "study", "alone"]) == 0
    alone = load_study(tmp_path / "experiments" / "alone")
    text = (tmp_path / "experiments" / "alone" / "study.yaml").read_text()
    assert "TODO" not in text, "what is left as it is must not stand in a report as a finding"
    assert alone.spec.limits.startswith("whether")
    assert (list(alone.spec.arms), alone.config_dir) == (["baseline", "cutmix"], None)
    assert dispatch(["new", "technique", "own_idea"]) == 0
    assert dispatch(["new", "study", "ours"]) == 0
    ours = load_study(tmp_path / "experiments" / "ours")
    assert ours.spec.arms == {"baseline": (), "own_idea": ("technique=own_idea",)}
    assert ours.config_folder == tmp_path / "configs"


def test_class_names() -> None:
    assert [class_name(name) for name in ("mine", "soft_crop2")] == ["Mine", "SoftCrop2"]

"""Code of the user's own, `packages=[NAME]`, is no part of the recipe: its source is in the fingerprint, and an edit
is told wherever rows or steps of before stand beside those of after."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import row, written
from helpers.trainings import stopping_after, trained
from paribus.cli.main import dispatch
from paribus.core.sources import hash_package
from paribus.recipe.arms import build_plan
from paribus.study.rows import read_row, update_rows

NET = "from helpers.two_heads import TwoHeads\n\n\nclass Mark:\n    version = {}\n"
NAMED = ("experiment=smoke", "packages=[j3_mine]", "steps=8ba", "every.log=2ba", "every.checkpoint=4ba")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "j3_mine.py"
    path.write_text(NET.format(1))
    return path


def fingerprints(folder: Path) -> list[dict[str, Any]]:
    return [s["fingerprint"] for s in json.loads((folder / "provenance.json").read_text())["segments"]]


def test_an_edit_during_a_run_is_a_new_segment(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        stopping_after(patched, 5)
        assert trained(tmp_path / "runs", *NAMED).code == 75
    first = hash_package("j3_mine")
    mine.write_text(NET.format(2))
    run = trained(tmp_path / "runs", *NAMED).folder
    second = hash_package("j3_mine")
    assert first != second
    assert [f["packages"] for f in fingerprints(run)] == [{"j3_mine": first}, {"j3_mine": second}]

    assert dispatch(["verify", str(run), "packages=[j3_mine]"]) == 0  # the edit changed no bit
    assert f"package j3_mine  {first} -> {second}" in capfd.readouterr().out
    made = read_row(run, "study", "baseline")
    assert made is not None
    assert made.mixed


def test_without_packages_the_fingerprint_is_what_it_was(tmp_path: Path) -> None:
    (known,) = fingerprints(trained(tmp_path, "experiment=smoke", "steps=2ba").folder)
    assert "packages" not in known


def test_a_plan_names_the_rows_made_before_an_edit_and_keeps_them(
    mine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = written(tmp_path / "study", recipe=list(NAMED))
    plan = build_plan(study)
    now = hash_package("j3_mine")
    made = [row(cell, fingerprint={"threads": 1, "packages": {"j3_mine": now}}) for cell in plan.cells[:3]]
    update_rows(study, made, plan.ids())
    before = study.results_path.read_bytes()
    for quiet in ([], ["--quiet"]):
        assert dispatch(["study", "plan", str(study.folder), *quiet]) == 0
        assert capfd.readouterr().err == ""
    mine.write_text(NET.format(2))
    for quiet in ([], ["--quiet"]):
        assert dispatch(["study", "plan", str(study.folder), *quiet]) == 0
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(
            "warning: your package j3_mine was edited since 3 of the rows on record were made "
            "(baseline/s0, baseline/s1, cutmix/s0);"
        )
    assert study.results_path.read_bytes() == before

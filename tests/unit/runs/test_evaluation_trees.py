"""`paribus eval RUN data.root=TREE` on trees without train/: val/ alone, class folders at the top, a part of them."""

import re
import shutil
from pathlib import Path

import pytest

from helpers.image_trees import pets
from helpers.trainings import run
from paribus.cli.main import dispatch

SMALL = ["experiment=smoke", "steps=4ba", "batch_size=6", "data=folder", "data.size=16", "data.workers=0"]


def evaluated(folder: Path, root: Path | str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, str]:
    """The metrics that are printed."""
    capsys.readouterr()
    assert dispatch(["eval", str(folder), f"data.root={root}", "runtime.threads=1", *more]) == 0
    return dict(re.findall(r"^  (\S+)\s+([\d.]+)$", capsys.readouterr().out, re.M))


def refused(folder: Path, root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert dispatch(["eval", str(folder), f"data.root={root}", "runtime.threads=1", *more]) == 2
    return capsys.readouterr().err


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """pets: a whole tree. only: its val/. top: its class folders. few: one of them. loose: an image. And others."""
    whole = pets(tmp_path / "pets", train=6, val=4)
    shutil.copytree(whole / "val", tmp_path / "only" / "val")
    for name in ("top", "few", "strange", "damaged"):
        shutil.copytree(whole / "val", tmp_path / name)
    shutil.rmtree(tmp_path / "few" / "cat")
    shutil.copytree(whole / "val" / "cat", tmp_path / "strange" / "horse")
    (tmp_path / "damaged" / "cat" / "cat_0.png").write_bytes(b"none")
    (tmp_path / "top" / "empty").mkdir()
    (tmp_path / "loose").mkdir()
    shutil.copy(whole / "val" / "cat" / "cat_0.png", tmp_path / "loose")
    return tmp_path


def test_a_run_from_a_folder(places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    more = ("data.minival=2", "evaluators.accuracy.splits=[val,minival]", "data.channels=1", "data.form=folder")
    code, folder = run(places / "runs", *SMALL, *more, f"data.root={places / 'pets'}")
    assert code == 0
    whole = evaluated(folder, places / "pets", capsys)
    assert set(whole) == {"val/acc1", "val/loss", "minival/acc1", "minival/loss"}
    of_val = {key: value for key, value in whole.items() if key.startswith("val")}
    for name in ("only", "top"):
        assert evaluated(folder, places / name, capsys) == of_val, name
    monkeypatch.chdir(places / "top")
    assert evaluated(folder, ".", capsys) == of_val
    with_other = ("data=folder", "data.size=16", "data.channels=1", "data.form=folder", "data.workers=0")
    assert evaluated(folder, places / "only", capsys, *with_other) == of_val

    few = evaluated(folder, places / "few", capsys)
    assert set(few) == set(of_val)
    assert dispatch(["eval", str(folder), f"data.root={places / 'few'}"]) == 0
    assert "val has no image of 1 of 2 classes: cat" in capsys.readouterr().err
    said = refused(folder, places / "strange", capsys)
    assert "1 folder of no class of the network: horse; it knows cat, dog" in said
    said = refused(folder, places / "loose", capsys)
    assert "1 image without class folders" in said
    assert f"paribus predict RUN {places / 'loose'}" in said
    assert "data.on_error=skip evaluates without such images" in refused(folder, places / "damaged", capsys)
    assert set(evaluated(folder, places / "damaged", capsys, "data.on_error=skip")) == set(of_val)
    assert "no tree of images there (no such folder)" in refused(folder, places / "gone", capsys)


def test_a_run_from_a_pack_needs_none_to_be_evaluated(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = places / "pets"
    assert dispatch(["data", "prepare", "folder", "--root", str(whole), "--size", "24", "--workers", "1"]) == 0
    code, folder = run(places / "runs", *SMALL, "data.pack_size=24", f"data.root={whole}")
    assert code == 0
    of_pack = evaluated(folder, whole, capsys)
    assert evaluated(folder, places / "only", capsys) == of_pack
    assert evaluated(folder, places / "top", capsys) == of_pack
    shutil.rmtree(whole / "packed")  # with train/ beside it the tree is the set, which needs its pack
    assert "no pack of folder at 24 pixels" in refused(folder, whole, capsys)


def test_a_run_of_another_kind_of_data_takes_class_folders_too(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, folder = run(places / "runs", "experiment=smoke", "data=digits", "steps=3ba", "batch_size=16")
    assert code == 0
    for name, pet in (("3", "cat"), ("7", "dog")):
        shutil.copytree(places / "top" / pet, places / "numbers" / name)
    assert set(evaluated(folder, places / "numbers", capsys)) == {"val/acc1", "val/acc5", "val/loss"}
    assert "data.root" in refused(folder, places / "pets", capsys)  # a set with train/ is not one of digits

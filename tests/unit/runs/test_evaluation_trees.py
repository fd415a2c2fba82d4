"""`paribus eval RUN data.root=TREE` on trees without train/: val/ alone, class folders at the top, a part of them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from helpers.image_trees import pets, picture
from helpers.trainings import run
from paribus.cli.arguments.trained import EVAL_KEYS
from paribus.cli.main import dispatch
from paribus.engine.distributed import World
from paribus.runs.evaluation import Evaluation, open_evaluation
from paribus.runs.predict import open_predictor
from paribus.runs.saved_run import load_saved_run

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


WHOLE = ["experiment=smoke", "steps=4ba", "batch_size=6", "data=folder", "data.workers=0", "data.form=folder"]


def evaluation_on(folder: Path, *words: str) -> Evaluation:
    return open_evaluation(folder, [*words, "data.workers=0"], EVAL_KEYS, [], World())


def test_other_data_has_a_header_and_files_of_its_own(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, folder = run(places / "runs", *WHOLE, "data.size=16", f"data.root={places / 'pets'}")
    assert code == 0
    assert dispatch(["eval", str(folder), "--confusion"]) == 0
    own = {name: (folder / name).read_bytes() for name in ("confusion-val.csv", "confusion-val.png")}
    few, data = f"data.root={places / 'pets' / '..' / 'few'}", ("data=folder", "data.workers=0")
    capsys.readouterr()
    for words, ending in (((few,), "val-few"), ((*data, few), "val-folder-few")):
        assert dispatch(["eval", str(folder), *words, "--confusion"]) == 0
        out = capsys.readouterr().out
        assert out.splitlines()[0].endswith(f" after step 4, on {' '.join(words)}")
        assert out.splitlines()[-2:] == [str(folder / f"confusion-{ending}.{kind}") for kind in ("csv", "png")]
        assert (folder / f"confusion-{ending}.csv").read_bytes() != own["confusion-val.csv"]
    assert {name: (folder / name).read_bytes() for name in own} == own


@pytest.mark.parametrize(
    "settings",
    [
        ("data.form=folder", "data.size=20", "data.eval_ratio=0.7", "data.interpolation=bicubic", "data.channels=1"),
        ("data.form=folder", "data.size=20", "data.mean=[0.4,0.4,0.3]", "data.std=[0.2,0.2,0.1]", "data.pack_size=9"),
        ("data.form=packed", "data.size=20", "data.pack_size=24"),
    ],
)
def test_another_set_is_prepared_as_the_runs_own(settings: tuple[str, ...], places: Path) -> None:
    whole = places / "pets"
    prepare = ["data", "prepare", "folder", "--root", str(whole), "--size", "24", "--workers", "1"]
    assert "data.form=folder" in settings or dispatch(prepare) == 0
    code, folder = run(places / "runs", *WHOLE, *settings, f"data.root={whole}")
    assert code == 0
    own = evaluation_on(folder)
    measured = {key: value for key, value in own.measure().metrics.items() if key.startswith("val/")}
    predictor = open_predictor(load_saved_run(folder, [], ()), None)
    files = [whole / "val" / name / f"{name}_{k}.png" for name in ("cat", "dog") for k in range(4)]
    predicted = torch.cat([batch.probabilities for batch in predictor.predict(files)])
    for words in ((), ("data=folder",)):
        for root in (whole, places / "top"):
            found = evaluation_on(folder, *words, f"data.root={root}")
            assert {key: value for key, value in found.measure().metrics.items() if key.startswith("val/")} == measured
            inputs = [batch.inputs for batch in found.data.splits["val"](predictor.batch_size)]
            found.network.prepare_eval()
            outputs = [found.network.predict(batch).double().softmax(1) for batch in inputs]
            assert torch.equal(torch.cat(outputs), predicted), (words, root)


def test_a_key_on_the_command_line_is_stronger_than_the_runs(places: Path) -> None:
    code, folder = run(places / "runs", *WHOLE, "data.size=20", f"data.root={places / 'pets'}")
    assert code == 0
    words = ("data.form=packed", "data.pack_size=40", "data.eval_ratio=1.0", "data.mean=[0.1,0.1,0.1]")
    found = evaluation_on(folder, "data=folder", f"data.root={places / 'top'}", *words)
    assert found.data.mean == (0.1,) * 3
    inputs = [
        torch.cat([batch.inputs for batch in evaluation.data.splits["val"](8)])
        for evaluation in (found, evaluation_on(folder, f"data.root={places / 'top'}"))
    ]
    assert inputs[0].shape == inputs[1].shape
    assert not torch.equal(inputs[0], inputs[1])


def test_changed_training_images_are_noticed(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, moved = places / "pets", places / "moved"
    code, folder = run(places / "runs", *WHOLE, "data.size=16", f"data.root={whole}")
    assert code == 0
    shutil.copytree(whole, moved)
    step = folder / "checkpoints" / "step_00000004.pt"
    calls = [[str(folder)], [str(step)], [str(folder), f"data.root={moved}"], [str(folder), f"data.root={whole}"]]

    def said(words: list[str]) -> str:
        capsys.readouterr()
        assert dispatch(["eval", *words]) == 0
        return capsys.readouterr().err

    assert [said(words) for words in calls] == [""] * 4
    picture(99, 50, 50).save(whole / "train" / "cat" / "cat_0.png")
    of_run = [said(words) for words in calls]
    assert of_run[2] == ""
    recorded = json.loads((folder / "summary.json").read_text())["data_checksum"][:12]
    for err in (of_run[0], of_run[1], of_run[3]):
        assert err.count("\n") == 1
        assert err.startswith(f"warning: data: its training images are not those that {folder.name} was trained on")
        assert f"which does not cover validation images, was {recorded} and is " in err
    assert said([str(folder), "data=folder", f"data.root={whole}", "data.workers=0"]) == ""
    (folder / "summary.json").unlink()  # as of a killed run
    assert said(calls[0]) == of_run[0]
    assert said([str(folder), f"data.root={places / 'top'}"]) == ""

    assert dispatch(["verify", str(folder)]) == 4
    out = capsys.readouterr().out
    assert f"  data  {recorded}" in out
    assert "the data has changed: its checksum is not the recorded one" in out
    assert "the record, the data or this machine" not in out


def test_another_pack_is_noticed(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = places / "pets"
    prepare = ["data", "prepare", "folder", "--root", str(whole), "--size", "24", "--workers", "1"]
    assert dispatch(prepare) == 0
    code, folder = run(places / "runs", *SMALL, "data.pack_size=24", f"data.root={whole}")
    assert code == 0
    picture(99, 50, 50).save(whole / "val" / "cat" / "cat_0.png")
    shutil.rmtree(whole / "packed")
    assert dispatch(prepare) == 0
    capsys.readouterr()
    assert dispatch(["eval", str(folder)]) == 0
    said = capsys.readouterr().err
    assert f"its pack is not the one that {folder.name} was trained on" in said
    assert said.count("\n") == 1

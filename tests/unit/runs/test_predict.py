"""`paribus predict`: what evaluation would have said of the same files, as rows."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.image_trees import tree
from helpers.packs import QUIET
from helpers.trainings import run
from paribus.cli.main import dispatch
from paribus.core.errors import RunFailed
from paribus.core.protocols import DeviceContext
from paribus.data.packs.prepare import PrepareRequest, prepare
from paribus.data.trees.files import list_image_files
from paribus.engine.distributed import World
from paribus.recipe.build import make_device_context
from paribus.runs.predict import PredictedBatch, PredictionWriter, open_predictor
from paribus.runs.saved_run import load_network, load_saved_run

SMALL = ["experiment=smoke", "steps=3ba", "batch_size=6", "every.checkpoint=3ba", "every.evaluate=3ba"]
FORMS = {
    "folder": ["data=folder", "data.form=folder", "data.size=16", "data.workers=0"],
    "packed": ["data=folder", "data.pack_size=32", "data.size=16", "data.eval_ratio=0.8"],  # resized once more
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tree(tmp_path_factory.mktemp("data") / "set", sizes=((40, 40), (30, 50), (64, 33)))
    prepare(PrepareRequest("folder", made, size=32), QUIET)
    return made


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    runs = tmp_path_factory.mktemp("runs")
    return {form: run(runs, *SMALL, *words, f"data.root={root}")[1] for form, words in FORMS.items()}


def evaluated(folder: Path) -> Tensor:
    """The probabilities that evaluation computes for the images of `val`, in their order."""
    found = load_saved_run(folder, [], ())
    place = make_device_context(found.recipe, torch.device("cpu"), World())  # its memory format decides bits
    data = found.recipe.data(place)
    method = load_network(found, found.recipe, data, place)
    method.prepare_eval()
    return torch.cat([method.predict(b.inputs).double().softmax(1) for b in data.splits["val"](512)])  # type: ignore


def rows(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out)))


@pytest.mark.parametrize("form", FORMS)
def test_the_same_as_in_evaluation_to_the_bit(form: str, trained: dict[str, Path], root: Path) -> None:
    files = list_image_files([root / "val"])
    predictor = open_predictor(load_saved_run(trained[form], [], ()), None)
    (batch,) = predictor.predict(files)
    assert batch.paths == tuple(files)
    assert torch.equal(batch.probabilities, evaluated(trained[form]))
    other = evaluated(trained["packed" if form == "folder" else "folder"])
    assert not torch.equal(batch.probabilities, other)  # negative control: the other form prepares otherwise


def test_files_of_a_set_in_memory(tmp_path: Path) -> None:
    """Its images as files; those of another size are made to fit."""
    _, folder = run(tmp_path / "runs", *SMALL, "data=synthetic", "data.size=12", "data.n=12", "data.val_n=20")
    data = load_saved_run(folder, [], ()).recipe.data(DeviceContext(torch.device("cpu")))
    (batch,) = data.splits["val"](20)
    pixels = ((batch.inputs * data.std[0] + data.mean[0]) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:03}.png")
    predictor = open_predictor(load_saved_run(folder, [], ()), None)
    (found,) = predictor.predict(sorted(tmp_path.glob("*.png")))
    assert torch.equal(found.probabilities, evaluated(folder))
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "large.png")
    assert len(next(predictor.predict([tmp_path / "large.png"])).probabilities) == 1


def test_rows_are_those_of_the_run_of_its_checkpoint_and_of_its_export_without_the_data(
    trained: dict[str, Path], root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = trained["folder"]
    photos = shutil.copytree(root / "val", tmp_path / "photos")
    assert dispatch(["predict", str(folder), str(photos)]) == 0
    out, err = capfd.readouterr()
    assert err == ""  # no bar: it is no terminal
    found = rows(out)
    assert list(found[0]) == ["file", "class", "probability", "p(class_0)", "p(class_1)", "p(class_2)"]
    assert [row["file"] for row in found] == [str(file) for file in list_image_files([photos])]
    expected = evaluated(folder)
    for row, scores in zip(found, expected, strict=True):
        assert row["class"] == f"class_{int(scores.argmax())}"
        assert float(row["probability"]) == float(row[f"p({row['class']})"]) == pytest.approx(float(scores.max()))
    assert dispatch(["export", str(folder), "--out", str(tmp_path / "net.safetensors")]) == 0
    hidden = root.rename(tmp_path / "elsewhere")
    try:
        capfd.readouterr()
        checkpoint = folder / "checkpoints" / "step_00000003.pt"
        for where in (checkpoint, tmp_path / "net.safetensors", tmp_path / "net.json"):
            assert dispatch(["predict", str(where), str(photos)]) == 0
            assert capfd.readouterr() == (out, "")
    finally:
        hidden.rename(root)


def test_json_lines_the_best_classes_and_a_file(
    trained: dict[str, Path], root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(trained["folder"]), str(root / "val" / "class_1"), "--batch-size", "2"]
    assert dispatch(command) == 0
    whole = rows(capfd.readouterr().out)
    assert dispatch([*command, "--top", "2"]) == 0
    best = rows(capfd.readouterr().out)
    assert list(best[0]) == ["file", "class", "probability", "class_2", "probability_2"]
    for row, all_of_it in zip(best, whole, strict=True):
        assert row["probability"] == all_of_it["probability"] >= row["probability_2"]
        assert row["probability_2"] == all_of_it[f"p({row['class_2']})"]
    target = tmp_path / "new" / "rows.jsonl"
    assert dispatch([*command, "--format", "jsonl", "--top", "9", "--out", str(target)]) == 0
    assert capfd.readouterr() == ("", "")
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(line["file"], line["class"], str(line["probability"])) for line in lines] == [
        (row["file"], row["class"], row["probability"]) for row in whole
    ]
    assert list(lines[0]["probabilities"]) == sorted(
        lines[0]["probabilities"], key=lambda name: -lines[0]["probabilities"][name]
    )
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_fails_is_one_line_and_the_others_are_done(
    trained: dict[str, Path], root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = shutil.copytree(root / "val" / "class_0", tmp_path / "photos")
    (photos / "000.png").write_bytes(b"no image")
    (photos / "zz.jpg").write_bytes(b"")
    assert dispatch(["predict", str(trained["packed"]), str(photos), "--batch-size=1"]) == 1
    out, err = capfd.readouterr()
    assert [Path(row["file"]).name for row in rows(out)] == ["001.png", "002.png", "003.png", "004.png"]
    first, second, last = err.splitlines()
    assert str(photos / "000.png") in first
    assert str(photos / "zz.jpg") in second
    assert last == "paribus: 2 of 6 files failed"


def test_wrong_input_is_one_line(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_folder = str(trained["folder"])
    (tmp_path / "empty").mkdir()
    for words, told in (
        ([run_folder, "nowhere.jpg"], "nowhere.jpg: no file or folder there"),
        ([run_folder, "empty"], "empty: no images in it"),
        ([run_folder, "runtime.threads=1"], "no image file or folder is named"),
        ([run_folder, "seed=1", "empty/.."], "no images in it"),
        (["nowhere", "empty"], "no images in it"),
    ):
        assert dispatch(["predict", *words]) == 2
        err = capfd.readouterr().err
        assert told in err
        assert err.count("\n") == 1
    Image.new("RGB", (20, 20)).save("a=b.png")
    assert dispatch(["predict", run_folder, "seed=1", "a=b.png"]) == 2
    assert "seed: cannot be overridden here" in capfd.readouterr().err
    assert dispatch(["predict", run_folder, "a=b.png", "runtime.threads=1"]) == 0  # a file may have an = in its name
    assert dispatch(["predict", run_folder, "a=b.png", "--out", "/proc/rows.csv"]) == 2
    assert "--out: /proc/rows.csv cannot be written" in capfd.readouterr().err


def test_of_equal_probabilities_the_lower_class_is_taken() -> None:
    out = io.StringIO()
    writer = PredictionWriter(out, ("a", "b", "c"), as_json=False, top=3)
    writer.write(PredictedBatch((Path("x.png"),), torch.tensor([[0.25, 0.375, 0.375]], dtype=torch.float64), ()))
    assert out.getvalue().splitlines()[1] == "x.png,b,0.375,c,0.375,a,0.25"


def test_outputs_that_are_no_numbers_fail(trained: dict[str, Path], root: Path) -> None:
    predictor = open_predictor(load_saved_run(trained["folder"], [], ()), None)
    next(predictor.network.model.parameters()).data.fill_(float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(RunFailed, match="outputs are not finite"):
        list(predictor.predict(list_image_files([root / "val"])))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("out", [io.StringIO, Terminal])
def test_a_bar_only_on_a_terminal_that_shows_no_rows(
    out: type[io.StringIO], trained: dict[str, Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_to, told = out(), Terminal()
    monkeypatch.setattr("sys.stdout", rows_to)
    monkeypatch.setattr("sys.stderr", told)
    for key, value in (("CI", ""), ("TERM", "xterm")):
        monkeypatch.setenv(key, value)
    assert dispatch(["predict", str(trained["folder"]), str(root / "val")]) == 0
    assert ("15/15" in told.getvalue()) == (out is io.StringIO)
    assert len(rows(rows_to.getvalue())) == 15

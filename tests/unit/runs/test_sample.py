"""`paribus sample`, and what evaluators draw while a generator trains: the same images, in files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.generating import NoisyClasses
from helpers.trainings import run, trained
from paribus.cli.main import dispatch
from paribus.core import runfolder
from paribus.core.errors import RunFailed
from paribus.core.image_grid import GAP_PX, to_bytes
from paribus.models.convnet import ConvNet
from paribus.models.exported import save
from paribus.runs import sample
from paribus.runs.kept_images import keep_images
from paribus.runs.sample import GRID, open_generator, write_samples
from paribus.runs.saved_run import load_saved_run

SMALL = ("experiment=smoke_images", "steps=4ba", "every.evaluate=2ba", "every.checkpoint=4ba", "runtime.threads=1")
CLASSES = ("model.conditional=true", "method.discriminator.conditional=true")


def export(path: Path) -> Path:
    from paribus.core.protocols import Spec

    spec, factory = Spec(10, 3, 12, 12), ConvNet(widths=(4, 8))
    torch.manual_seed(0)
    inputs = {"inputs": {**vars(spec), "mean": [0.5] * 3, "std": [0.25] * 3}}
    save(path, factory, spec, factory(spec).state_dict(), inputs)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of a generator without classes, of one with them, and of a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    features = f"evaluators.fid.features.classifier.path={export(folder / 'features.safetensors')}"
    return {
        "plain": run(folder, *SMALL, "evaluators=[samples,fid]", features)[1],
        "classes": run(folder, *SMALL, *CLASSES, "evaluators=[samples]", "evaluators.samples.rows=2")[1],
        "classifier": run(folder, "experiment=smoke", "steps=2ba", "runtime.threads=1")[1],
    }


def read(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path))


def of_generator(folder: Path, count: int, seed: int = 0, classes: Tensor | None = None) -> np.ndarray[Any, Any]:
    opened = open_generator(load_saved_run(folder, [], ()))
    inputs = opened.network.sample(torch.arange(count), seed, classes)
    return to_bytes(opened.context.to_pixels(inputs)).numpy()


def test_files_and_a_grid_are_the_generators_images(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs["plain"]
    assert dispatch(["sample", str(folder), "--n", "5", "--seed", "3"]) == 0
    assert f"5 images in {folder}/samples\n{folder}/samples/grid.png\n" in capsys.readouterr().out
    expected = of_generator(folder, 5, seed=3)
    for k, image in enumerate(expected):
        assert (read(folder / "samples" / f"{k:06d}.png") == image).all()
    grid = read(folder / "samples" / GRID)
    assert grid.shape == (2 * 12 + 3 * GAP_PX, 3 * 12 + 4 * GAP_PX, 3)
    assert (grid[GAP_PX : GAP_PX + 12, GAP_PX : GAP_PX + 12] == expected[0]).all()
    assert not (of_generator(folder, 5, seed=4) == expected).all()  # negative control


def test_no_batch_size_changes_an_image(runs: dict[str, Path], tmp_path: Path) -> None:
    for size in (1, 3, 64):
        out = tmp_path / str(size)
        assert dispatch(["sample", str(runs["plain"]), "--n", "5", "--batch-size", str(size), "--out", str(out)]) == 0
    first, *others = ([read(p).astype(int) for p in sorted((tmp_path / str(s)).iterdir())] for s in (1, 3, 64))
    for other in others:  # convolutions of other sizes round otherwise, by a level at most
        assert max(int(abs(a - b).max()) for a, b in zip(first, other, strict=True)) <= 1


def test_classes_come_in_turn_by_name_or_number(runs: dict[str, Path], tmp_path: Path) -> None:
    command = ["sample", str(runs["classes"]), "--n", "4", "--out", str(tmp_path)]
    assert dispatch([*command, "--classes", "3,7"]) == 0
    expected = of_generator(runs["classes"], 4, classes=torch.tensor([3, 7, 3, 7]))
    assert all((read(tmp_path / f"{k:06d}.png") == image).all() for k, image in enumerate(expected))
    assert read(tmp_path / GRID).shape == (2 * 12 + 3 * GAP_PX, 2 * 12 + 3 * GAP_PX, 3)
    assert dispatch(command) == 0  # all classes
    expected = of_generator(runs["classes"], 4)
    assert all((read(tmp_path / f"{k:06d}.png") == image).all() for k, image in enumerate(expected))


def test_images_of_an_earlier_call_are_not_left_among_new_ones(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(runs["plain"]), "--out", str(tmp_path)]
    (tmp_path / "step_00000020.png").touch()  # of the evaluator; no image of this command
    assert dispatch([*command, "--n", "5", "--seed", "1"]) == 0
    before = (tmp_path / "000000.png").read_bytes()
    assert dispatch([*command, "--n", "3"]) == 2
    assert "has 2 images from before that 3 new ones would not replace (from 000003.png on)" in capsys.readouterr().err
    assert (tmp_path / "000000.png").read_bytes() == before
    assert dispatch([*command, "--n", "5"]) == 0
    assert (tmp_path / "000000.png").read_bytes() != before


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("classes", ["--classes", "3,cat"], "--classes: found cat; should be names or numbers from 0 to 9"),
        ("plain", ["--classes", "3"], "--classes: this generator knows no classes"),
        ("classifier", [], "SupervisedTraining makes no images; a run of method=adversarial does"),
        ("plain", ["--n", "0"], "found '0'"),
        ("plain", ["--n", "1000001"], "found '1000001'"),
        ("plain", ["model.latent=3"], "model.latent: cannot be overridden here"),
    ],
)
def test_what_cannot_be_is_told(
    name: str, options: list[str], said: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["sample", str(runs[name]), *options]) == 2
    assert said in capsys.readouterr().err


def test_of_an_export_there_is_no_noise(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["export", str(runs["plain"])]) == 0
    assert dispatch(["sample", str(runs["plain"] / "model.safetensors")]) == 2
    assert "an export is a network alone" in capsys.readouterr().err


class Translating:
    def translate(self, inputs: Tensor, domains: Tensor) -> Tensor:
        return inputs


def test_a_method_that_translates_says_what_it_does_instead(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample, "load_network", lambda *_: Translating())
    assert dispatch(["sample", str(runs["plain"])]) == 2
    assert "Translating makes images of given ones, and none from noise" in capsys.readouterr().err


def test_images_that_are_no_numbers_are_told(runs: dict[str, Path], tmp_path: Path) -> None:
    opened = open_generator(load_saved_run(runs["plain"], [], ()))
    broken = replace(opened, network=NoisyClasses(shift=float("nan")))
    with pytest.raises(RunFailed, match="not finite"):
        write_samples(broken, tmp_path / "out", 3, 0, (), 2)
    assert not (tmp_path / "out").exists()


def test_a_run_keeps_a_grid_of_each_evaluation_and_the_names_of_its_features(runs: dict[str, Path]) -> None:
    folder = runs["plain"]
    details = json.loads((folder / runfolder.EVALUATION).read_text())
    image = details["samples"]["grid"]["image"]
    assert image == {"file": "samples/step_00000004.png", "caption": "8 × 8 images, seed 0"}
    assert "on features of features" in details["fid"]["features"]["text"]["text"]
    grids = [read(folder / "samples" / runfolder.name_picture(step)) for step in (2, 4)]
    assert not (grids[0] == grids[1]).all()
    first = of_generator(folder, 64)[0]
    assert abs(grids[1][GAP_PX : GAP_PX + 12, GAP_PX : GAP_PX + 12].astype(int) - first).max() <= 1
    assert runfolder.find_pictures(folder, 4) == {"samples": folder / "samples" / "step_00000004.png"}
    of_classes = json.loads((runs["classes"] / runfolder.EVALUATION).read_text())["samples"]["grid"]["image"]
    assert of_classes["caption"].startswith("2 × 8 images, seed 0; classes 0, 1, 2, 3, 5")


def test_eval_writes_the_grid_beside_its_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    assert dispatch(["eval", str(runs["plain"]), "--out", str(tmp_path), "--quiet"]) == 0
    details = json.loads((tmp_path / "eval.json").read_text())["details"]
    assert details["samples"]["grid"]["image"]["file"] == "eval-samples.png"
    assert (read(tmp_path / "eval-samples.png") == read(runs["plain"] / "samples" / "step_00000004.png")).all()


def test_several_pictures_of_one_evaluator_have_names_of_their_own(tmp_path: Path) -> None:
    image = {"image": {"png": "iVBORw0K", "caption": "c"}}
    details = {"faces": {"a": image, "b": image, "n": {"matrix": {"rows": [[1]]}}}}
    kept = keep_images(tmp_path, details, lambda name: f"x-{name}.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-faces_a.png", "x-faces_b.png"]
    assert kept["faces"]["a"] == {"image": {"file": "x-faces_a.png", "caption": "c"}}
    assert kept["faces"]["n"] == details["faces"]["n"]
    assert details["faces"]["a"]["image"]["png"]  # as it was


def test_evaluators_of_images_change_no_step(runs: dict[str, Path], tmp_path: Path) -> None:
    plain = trained(tmp_path, *SMALL)
    assert plain.folder.name == runs["plain"].name  # one id
    weights = (folder / "receipts.jsonl" for folder in (plain.folder, runs["plain"]))
    assert len({path.read_bytes() for path in weights}) == 1

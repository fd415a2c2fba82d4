"""The names of classes from training to what is made of it: summary, checkpoint, export; and other data under them."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import paribus
from helpers.image_trees import tree
from helpers.named_images import COLOURS
from helpers.trainings import QUIET, composed, run
from paribus.cli.main import dispatch
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.engine import checkpoint
from paribus.recipe.recipe import build_recipe
from paribus.runs.resume import check_same_classes
from paribus.runs.saved_run import SavedRun, load_newest_checkpoint, load_saved_run, with_labels_of
from paribus.runs.train import train

SMALL = ["experiment=smoke", "steps=4ba", "batch_size=6", "every.checkpoint=2ba", "every.evaluate=2ba"]
FOLDER = ["data=folder", "data.form=folder", "data.size=16", "data.workers=0"]


def write(file: Path, names: Sequence[str]) -> None:
    file.write_text(json.dumps({"train": names, "val": names}))


def trained(runs: Path, file: Path, *overrides: str) -> tuple[int, Path]:
    """Train on helpers.named_images, with its classes in this file; the exit code and the run folder."""
    cfg = composed(*QUIET, *SMALL, *overrides, "technique=[baseline]", "packages=[helpers]", f"paths.runs={runs}")
    splits = {split: {"file": str(file), "split": split} for split in ("train", "val")}
    dataset = {"_class_": "helpers.named_images.NamedImages"}
    cfg["data"] = {
        "_target_": "paribus.data.wrapped.FromDataset",
        "dataset": dataset,
        **splits,
        "size": 16,
        "workers": 0,
    }
    return train(cfg, []), build_recipe(cfg, []).folder


def accuracy(out: str) -> str:
    return re.findall(r"val/acc1\s+([\d.]+)", out)[0]


def without_names(folder: Path) -> None:
    """The checkpoints as they were before names were kept."""
    for path in (folder / "checkpoints").glob("step_*.pt"):
        old = vars(checkpoint.load(path))
        for key in ("class_ids", "class_names"):
            del old[key]
        checkpoint.save(folder, checkpoint.Checkpoint(**old), 9)
        (folder / "checkpoints" / "last").unlink()


def test_names_are_kept_from_training_to_the_loaded_export(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, folder = run(tmp_path / "runs", *SMALL, *FOLDER, f"data.root={tree(tmp_path / 'set')}")
    assert code == 0
    names = ("class_0", "class_1", "class_2")
    assert json.loads((folder / "summary.json").read_text())["classes"] == list(names)
    found = load_newest_checkpoint(folder)
    assert found is not None
    assert found.class_ids == found.class_names == names
    assert dispatch(["export", str(folder)]) == 0
    assert json.loads((folder / "model.json").read_text())["classes"] == list(names)
    network = paribus.load(folder / "model.safetensors")
    assert network.class_names == network.class_ids == names
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**about, "classes": ["one"]}))
    with pytest.raises(ConfigError, match="it names 1 classes of 3"):
        paribus.load(folder / "model.safetensors")


def test_eval_on_another_root_compares_the_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "set")
    _, folder = run(tmp_path / "runs", *SMALL, *FOLDER, f"data.root={root}")
    capfd.readouterr()
    assert dispatch(["eval", str(folder)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    root.rename(tmp_path / "moved")
    assert dispatch(["eval", str(folder), f"data.root={tmp_path / 'moved'}"]) == 0
    assert accuracy(capfd.readouterr().out) == accuracy(out)
    for split in ("train", "val"):
        (tmp_path / "moved" / split / "class_0").rename(tmp_path / "moved" / split / "zebra")
    assert dispatch(["eval", str(folder), f"data.root={tmp_path / 'moved'}"]) == 2
    told = "data: its classes are not those of the network; not in the network: zebra; only in the network: class_0\n"
    assert capfd.readouterr().err == f"paribus: {told}"
    without_names(folder)
    assert dispatch(["eval", str(folder), f"data.root={tmp_path / 'moved'}"]) == 0
    assert (
        "is from before class names were kept; labels are taken by their position, unchecked" in capfd.readouterr().err
    )


def test_eval_puts_the_same_classes_into_the_networks_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The pictures are plain colours, so other labels would show: nothing but their numbering changes."""
    names, file = list(COLOURS), tmp_path / "names.json"
    write(file, names)
    _, folder = trained(tmp_path / "runs", file, "steps=40ba", "optimizer.lr=0.01")
    capfd.readouterr()
    assert dispatch(["eval", str(folder), "packages=[helpers]"]) == 0
    straight = accuracy(capfd.readouterr().out)
    assert straight == "1.000000"
    write(file, names[1:] + names[:1])
    assert dispatch(["eval", str(folder), "packages=[helpers]"]) == 0
    out, err = capfd.readouterr()
    assert accuracy(out) == straight
    assert "classes are in another order than the network's; matched by name" in err
    found = load_saved_run(folder, ["packages=[helpers]"], ("packages",))
    unchecked = SavedRun(folder, found.recipe, replace(found.checkpoint, class_ids=()), found.summary)
    data = found.recipe.data(DeviceContext(torch.device("cpu")))
    assert with_labels_of(unchecked, data) is data
    assert f"the checkpoint of {folder} has no class names; labels are taken" in capfd.readouterr().err
    moved = [b.targets for b in with_labels_of(found, data).splits["val"](12)]
    assert torch.equal(torch.cat(moved), (torch.cat([b.targets for b in data.splits["val"](12)]) + 1) % 3)


def test_a_run_is_not_resumed_on_other_classes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same config, images of the same number and labels: only the names tell."""
    names, file = list(COLOURS), tmp_path / "names.json"
    write(file, names)
    _, folder = trained(tmp_path / "runs", file)
    write(file, names[1:] + names[:1])
    with pytest.raises(ConfigError, match=r"in another order .*: class 0 is green, and was red; put the data back, or"):
        trained(tmp_path / "runs", file)  # finished
    (folder / "DONE").unlink()
    (folder / "checkpoints" / "step_00000004.pt").unlink()
    with pytest.raises(ConfigError, match=r"in another order .*: class 0 is green, and was red; put the data back, or"):
        trained(tmp_path / "runs", file)
    write(file, [*names[:2], "colour_blue"])
    with pytest.raises(
        ConfigError, match=r"not in the run .*: colour_blue; only in the run .*: blue; put the data back"
    ):
        trained(tmp_path / "runs", file)
    write(file, names)
    capfd.readouterr()
    assert trained(tmp_path / "runs", file)[0] == 0
    assert "warning" not in capfd.readouterr().err


def test_classes_that_are_not_known_are_not_compared(tmp_path: Path) -> None:
    for recorded, found in ((None, ("a",)), ((), ("a",)), (("a",), ()), (("a",), ("a",))):
        check_same_classes(tmp_path, recorded, found)

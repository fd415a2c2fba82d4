"""TensorBoard's own reader on what the mirror writes: every value once, whatever happened, and the recipe."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paribus.core.errors import ConfigError
from paribus.core.image_grid import encode_png
from paribus.core.runfolder import name_picture, write_atomically
from paribus.tracking.events import Events
from paribus.tracking.tensorboard import TensorBoard

pytest.importorskip("tensorboard")
CONFIG = "name: smoke\nseed: 3\noptimizer: {lr: 0.1, fused: true}\ntechniques: [cutmix, adamp]\nema: {decay: null}\n"


def accumulated(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader


def record(folder: Path, start: int, steps: tuple[int, ...]) -> None:
    write_atomically(folder / "config.yaml", CONFIG + "tracker: {wandb: {project: x}}\npaths: {runs: runs}\n")
    trackers = [Events()(folder, start, 40), TensorBoard()(folder, start, 40)]
    for step in steps:
        for tracker in trackers:
            tracker.log(step, {"train/loss": 1 / step, "lr": 0.5})
    for tracker in trackers:
        tracker.close({})


def test_its_reader_finds_every_value(tmp_path: Path) -> None:
    record(tmp_path, 0, (10, 20, 30))
    reader = accumulated(tmp_path)
    assert sorted(reader.Tags()["scalars"]) == ["lr", "train/loss"]
    found = reader.Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(s, pytest.approx(1 / s)) for s in (10, 20, 30)]


def test_after_a_kill_and_a_resume_each_step_is_there_once(tmp_path: Path) -> None:
    record(tmp_path, 0, (10, 20, 30))
    (written,) = tmp_path.glob("events.out.tfevents.*")
    written.write_bytes(written.read_bytes()[:-7])  # in the middle of a record
    record(tmp_path, 20, (30, 40))
    assert [event.step for event in accumulated(tmp_path).Scalars("lr")] == [10, 20, 30, 40]


def test_what_evaluators_drew_is_there_once_also_after_a_resume(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    pictures = {step: encode_png(torch.full((4, 6, 3), step, dtype=torch.uint8)) for step in (10, 20, 30)}
    for step, png in pictures.items():
        (tmp_path / "samples" / name_picture(step)).write_bytes(png)
    (tmp_path / "samples" / name_picture(20, "faces")).write_bytes(pictures[10])
    (tmp_path / "samples" / "grid.png").write_bytes(pictures[10])
    record(tmp_path, 0, (10, 20))
    record(tmp_path, 20, (30,))
    reader = accumulated(tmp_path)
    assert sorted(reader.Tags()["images"]) == ["faces", "samples"]
    shown = {image.step: image for image in reader.Images("samples")}
    assert {step: image.encoded_image_string for step, image in shown.items()} == pictures
    assert (shown[10].width, shown[10].height) == (6, 4)


def test_the_recipe_is_there_as_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    record(tmp_path, 0, (10,))
    (content,) = accumulated(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.ListFields()[1][1:]
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert sorted(found) == ["name", "optimizer.fused", "optimizer.lr", "seed", "techniques"]
    assert found["optimizer.lr"].number_value == 0.1
    assert found["techniques"].string_value == "cutmix,adamp"


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        TensorBoard()(tmp_path, 0, 1)


def test_tensorflow_is_not_imported(tmp_path: Path) -> None:
    record(tmp_path, 0, (10,))
    assert "tensorflow" not in sys.modules

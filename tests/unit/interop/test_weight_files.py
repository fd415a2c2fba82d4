"""Weights are found in every usual kind of file, and what is none is said in one line. Nothing in a file runs."""

import argparse
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from helpers.start_files import export
from helpers.trainings import trained
from paribus.core.content import hash_file
from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.interop.weight_files import find_run, find_weights, hash_checkpoint, hash_weights, read_weights

NET = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.ones(2)}
OTHER = {name: value + 1 for name, value in NET.items()}

# what a training program saves -> the part that is taken
CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "a state dict": (OrderedDict(NET), ""),
    "with what is no tensor": ({**NET, "epoch": 3, "name": "x"}, ""),
    "timm": ({"epoch": 1, "state_dict": NET, "args": argparse.Namespace(lr=0.1), "optimizer": {}}, "state_dict"),
    "timm with an average": ({"state_dict": OTHER, "state_dict_ema": NET}, "state_dict_ema"),
    "torchvision": ({"model": OTHER, "model_ema": NET, "optimizer": {"state": {0: torch.ones(1)}}}, "model_ema"),
    "DeiT": ({"model": NET}, "model"),
    "two layers of wrapping": ({"method": {"model": NET, "optimizer": {}}}, "model"),
}  # fmt: skip


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("is_zip", [True, False])
def test_the_state_dict_of_a_training_program_is_found(kind: str, is_zip: bool, tmp_path: Path) -> None:
    content, part = CHECKPOINTS[kind]
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=is_zip)
    found = read_weights(find_weights(str(tmp_path / "a.pth.tar")), None)
    assert same(found.tensors, NET)
    assert found.where == part


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])  # the bytes tell, not the name
def test_safetensors(name: str, tmp_path: Path) -> None:
    save_file(NET, tmp_path / name)
    found = read_weights(tmp_path / name, hash_file(tmp_path / name))
    assert same(found.tensors, NET)
    with pytest.raises(ConfigError, match="the recipe demands 000"):
        read_weights(tmp_path / name, "0" * 64)


def test_an_export_is_found_by_either_file(tmp_path: Path) -> None:
    file = export(tmp_path / "a.safetensors")
    assert find_weights(str(file.with_suffix(".json"))) == find_weights(str(file)) == file


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_the_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is neither a run folder \(config.yaml\) nor one with model.safetensors"):
        find_weights(str(tmp_path))
    (tmp_path / name).write_bytes(b"")
    assert find_weights(str(tmp_path)) == tmp_path / name


def test_a_run_is_its_newest_checkpoint_known_by_what_was_computed(tmp_path: Path) -> None:
    run = trained(tmp_path, "experiment=smoke", "steps=4ba", "every.checkpoint=2ba", "ema.decay=0.9")
    newest = find_weights(str(run.folder))
    assert newest.name == "step_00000004.pt"
    assert find_run(newest) == run.folder
    assert find_run(tmp_path / "step_00000004.pt") is None
    state = checkpoint.load(newest)
    found = read_weights(newest, hash_weights(newest))
    assert found.where == "average at step 4"
    assert same(found.tensors, state.method["ema"])

    slower = replace(state, loop={**state.loop, "seconds": [9.0, 9.0, 9.0]})
    others = [
        replace(state, step=3),
        replace(state, recipe="0" * 12),
        checkpoint.load(newest.with_name("step_00000002.pt")),
    ]
    assert hash_checkpoint(slower) == hash_checkpoint(state) == hash_weights(newest)
    assert len({hash_checkpoint(other) for other in (*others, state)}) == 4
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="is not a sound checkpoint"):
        hash_weights(newest)
    for path in newest.parent.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="has no checkpoint yet; train it first"):
        find_weights(str(run.folder))


class Command:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


BAD: dict[str, tuple[Any, str]] = {
    "a picture": (b"\xff\xd8\xff\xe0" + b"0" * 99, "is no file of weights; init_from takes a state dict"),
    "text": (b"hello", "is no file of weights"),
    "nothing": (b"", "is no file of weights"),
    "half a safetensors": (b"\x08\x00\x00\x00\x00\x00\x00\x00{bad", "is no sound .safetensors file"),
    "a network": (nn.Linear(2, 2), r"holds a torch.nn.modules.linear.Linear, which could run code and is not read"),
    "a command": ({"state_dict": NET, "x": Command()}, r"holds a \w+.mkdir, which could run code and is not read"),
    "no tensors": ({"epoch": 1, "args": "x"}, "holds no state dict, but the keys epoch, args"),
    "one tensor": (torch.ones(2), "holds no state dict, but a Tensor"),
    "an optimizer": ({"optimizer": {"state": {0: torch.ones(1)}}}, "holds no state dict, but the keys optimizer"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_file_of_weights_is_said_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD[kind]
    file = tmp_path / "a.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ConfigError, match=rf"^init_from: \S*a\.pt {message}") as caught:
        read_weights(file, None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_half_a_file_of_torch_cannot_be_read(tmp_path: Path) -> None:
    torch.save(NET, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:400])
    with pytest.raises(ConfigError, match=r"a\.pt cannot be read: "):
        read_weights(tmp_path / "a.pt", None)

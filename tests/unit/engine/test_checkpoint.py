"""Checkpoints, the record, evaluation and windows: whole or not there, exact, never silently wrong."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.core.errors import ConfigError
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint
from paribus.tracking.events import Events, read_events

CPU = torch.device("cpu")


def at_step(step: int) -> Checkpoint:
    return Checkpoint(step, "abc", {"w": torch.arange(1000.0) + step}, {"counts": [1, 2]})


def test_a_checkpoint_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, at_step(step), keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "last",
        "step_00000002.pt",
        "step_00000003.pt",
    ]
    assert (tmp_path / "checkpoints" / "last").read_text() == "step_00000003.pt\n"
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert torch.equal(found.method["w"], at_step(3).method["w"])


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_any_flipped_bit_or_cut_is_noticed(place: float, bit: int, cut: bool, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder, at_step(1), keep=5)
    path = checkpoint.save(folder, at_step(2), keep=5)
    content = bytearray(path.read_bytes())
    where = int(place * len(content))
    content[where] ^= 1 << bit
    path.write_bytes(content[:where] if cut else content)
    with pytest.warns(UserWarning, match="not a sound checkpoint"):
        found = checkpoint.load_newest(folder)
    assert found is not None
    assert found.step == 1


def test_when_all_are_damaged_the_run_does_not_start_over_in_silence(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path) is None
    checkpoint.save(tmp_path, at_step(1), keep=1).write_bytes(b"")
    with pytest.warns(UserWarning, match="not a sound"), pytest.raises(ConfigError, match="no checkpoint is sound"):
        checkpoint.load_newest(tmp_path)


def test_the_record_is_on_the_disk_before_the_checkpoint_that_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, synced, fsync = Events()(tmp_path, 0, 10), list[str](), os.fsync

    def told(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    log.log(10, {"train/loss": 1.0})
    assert synced == []  # a slow disk is not waited for at a log line,
    assert read_events(tmp_path / "events.jsonl")  # though the line has left this process
    checkpoint.save(tmp_path, at_step(10), keep=1)
    log.close({})
    assert synced[0] == "events.jsonl"
    assert synced[1].startswith("step_00000010.pt.tmp-")


class Crafted:
    def __reduce__(self):
        return (print, ("code from a checkpoint",))


def test_a_crafted_pickle_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint.save(tmp_path, Checkpoint(1, "abc", {"w": Crafted()}, {}), keep=1)
    with pytest.raises(ConfigError, match="not a sound checkpoint"):
        checkpoint.load(path)
    assert capsys.readouterr().out == ""


def test_torch_reads_a_checkpoint_without_us(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, at_step(2), keep=1)
    assert torch.load(path, weights_only=True)["step"] == 2

"""Checkpoints, the record, evaluation and windows: whole or not there, exact, never silently wrong."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from paribus.core.batch import Batch
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.runfolder import mark, read_json, state, write_atomically
from paribus.core.streams import stream
from paribus.engine import checkpoint
from paribus.engine.checkpoint import Checkpoint
from paribus.engine.distributed import World
from paribus.engine.evaluate import evaluate
from paribus.engine.window import Window
from paribus.evaluators.accuracy import Accuracy
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
    found = checkpoint.newest(tmp_path)
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
        found = checkpoint.newest(folder)
    assert found is not None
    assert found.step == 1


def test_when_all_are_damaged_the_run_does_not_start_over_in_silence(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    checkpoint.save(tmp_path, at_step(1), keep=1).write_bytes(b"")
    with pytest.warns(UserWarning, match="not a sound"), pytest.raises(ConfigError, match="no checkpoint is sound"):
        checkpoint.newest(tmp_path)


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


def test_events_are_rewound_and_torn_lines_dropped(tmp_path: Path) -> None:
    log = Events()(tmp_path, 0, 40)
    for step in (10, 20, 30):
        log.log(step, {"train/loss": step / 7})
    log.close({})
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"step": 40, "val')
    assert [e["step"] for e in read_events(path)] == [10, 20, 30]
    again = Events()(tmp_path, 20, 40)
    again.log(30, {"train/loss": 30 / 7})
    again.close({})
    assert path.read_bytes() == whole
    assert json.loads(path.read_text().splitlines()[2])["values"]["train/loss"] == 30 / 7


@given(junk=st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_damaged_record_is_read_up_to_the_damage(junk: bytes, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    path.write_bytes(b'{"step": 1, "values": {}}\n' + junk)
    assert read_events(path)[0] == {"step": 1, "values": {}}


def test_states_are_exclusive_and_json_damage_is_told(tmp_path: Path) -> None:
    assert state(tmp_path) is None
    for name in ("PREEMPTED", "FAILED", "DONE"):
        mark(tmp_path, name)
        assert [p.name for p in tmp_path.iterdir()] == [name]
    mark(tmp_path, None)
    assert state(tmp_path) is None
    write_atomically(tmp_path / "summary.json", "{")
    with pytest.raises(ConfigError, match=r"summary\.json is damaged"):
        read_json(tmp_path / "summary.json")


class Fixed:
    """A method that predicts numbers made for each sample id, ties and NaN among them."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    def train_step(self, batch, at):
        return {}

    def settle(self) -> None: ...

    def predict(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits[inputs[:, 0, 0, 0].long()]

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None: ...


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 60), classes=st.integers(2, 9), size=st.integers(1, 64), seed=st.integers(0, 99))
def test_accuracy_counts_like_a_loop_at_any_batch_size(n: int, classes: int, size: int, seed: int) -> None:
    g = stream(seed, "accuracy")
    logits = torch.randint(0, 4, (n, classes), generator=g).double()  # many ties
    logits[torch.rand(n, classes, generator=g) < 0.05] = float("nan")
    targets = torch.randint(0, classes, (n,), generator=g)

    def batches(batch_size: int):
        for ids in torch.arange(n).split(batch_size):
            yield Batch(ids[:, None, None, None].float(), targets[ids], ids, ids, len(ids), classes)

    got = evaluate(Fixed(logits), [Accuracy(batch_size=size)], {"val": batches})
    hits = {1: 0, 5: 0}
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        own = row[target]
        ahead = sum(not (x <= own) or (x == own and k < target) for k, x in enumerate(row) if k != target)
        for k in hits:
            hits[k] += own == own and ahead < k
    assert got["val/acc1"] == hits[1] / n
    assert got.get("val/acc5", hits[5] / n) == hits[5] / n
    assert ("val/acc5" in got) == (classes > 5)
    if not logits.isnan().any():
        assert got["val/loss"] == pytest.approx(float(F.cross_entropy(logits, targets)), rel=1e-12)


def test_a_loss_that_is_not_finite_is_caught_wherever_it_hides_in_a_window() -> None:
    window = Window(World(), CPU)
    for loss in (1.0, float("inf"), 1.0):
        window.add({"train/loss": torch.tensor(loss), "lr": 0.1}, samples=4)
    with pytest.raises(RunFailed, match="not finite between steps 1 and 3"):
        window.flush(3)


def test_a_window_averages_and_survives_a_checkpoint() -> None:
    whole, parts = Window(World(), CPU), Window(World(), CPU)
    for k in range(5):
        for window in (whole, parts):
            window.add({"train/loss": torch.tensor(k / 3), "lr": k}, samples=4)
        if k == 2:
            saved = parts.state_dict()
            assert saved["sums"]["train/loss"].shape == (1,)  # one row a rank
            parts = Window(World(), CPU)
            parts.load_state_dict(saved)
    a, b = whole.flush(5), parts.flush(5)
    assert a["train/loss"] == b["train/loss"] == pytest.approx(2 / 3)
    assert a["lr"] == b["lr"] == 4

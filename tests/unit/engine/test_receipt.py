"""A run's receipt: the numbers as they were, whatever the cadence; whole, or its damage is told; and two held side by
side."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paribus.core.errors import ConfigError
from paribus.engine import agreement, receipt
from paribus.engine.distributed import World
from paribus.engine.receipt import Receipt, checksum, checksums

FILE = "receipts.jsonl"


class Method:
    """Leaves gradients behind; the rest of the protocol is not asked for here."""

    def __init__(self) -> None:
        self.weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]

    def parameters(self) -> list[nn.Parameter]:
        return self.weights


def losses(n: int) -> list[torch.Tensor]:
    return [torch.tensor(1 / (k + 3), dtype=torch.float32) for k in range(n)]


def written(folder: Path, log: int, n: int = 12, stop: int | None = None) -> Receipt:
    """A run of n steps with log points every `log`, from the beginning."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Receipt(folder, World())
    for step, loss in enumerate(losses(n), 1):
        made.add({"train/loss": loss, "lr": 0.1, "adamp/projected": torch.tensor(1.0)})
        if step % log == 0 or step == n:
            made.write_losses(step, Method())  # type: ignore[arg-type]
    return made


def test_losses_come_back_to_the_bit_and_other_metrics_do_not(tmp_path: Path) -> None:
    written(tmp_path, 5)
    found = {at: values for line in receipt.read(tmp_path / FILE) for at, values in receipt.iterate_steps(line)}
    assert list(found) == list(range(1, 13))
    for step, loss in enumerate(losses(12), 1):
        assert found[step].keys() == {"train/loss"}
        assert struct.pack("<d", found[step]["train/loss"]) == struct.pack("<d", float(loss))


def test_the_chain_does_not_depend_on_the_cadence(tmp_path: Path) -> None:
    chains = {}
    for log in (1, 3, 12):
        written(tmp_path / str(log), log)
        chains[log] = {
            line["step"]: line["chain"] for line in receipt.read(tmp_path / str(log) / FILE) if "chain" in line
        }
    assert chains[1][12] == chains[3][12] == chains[12][12]
    assert chains[1][6] == chains[3][6]
    assert len(set(chains[1].values())) == 12


def test_a_step_is_not_slowed_by_a_transfer(tmp_path: Path) -> None:
    """No host sync between log points: nothing of a tensor is read."""

    class Untouchable(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise AssertionError(f"{func} in a step")

    made = Receipt(tmp_path, World())
    made.add({"train/loss": torch.tensor(1.0).as_subclass(Untouchable)})


def test_a_receipt_goes_on_from_a_checkpoint_and_what_came_after_is_dropped(tmp_path: Path) -> None:
    written(tmp_path / "whole", 5)
    made, state = Receipt(tmp_path, World()), {}
    for step, loss in enumerate(losses(9), 1):
        made.add({"train/loss": loss})
        if step == 7:  # in the middle of a window
            state = json.loads(json.dumps(made.state_dict()))
        if step % 5 == 0 or step == 9:
            made.write_losses(step, Method())  # type: ignore[arg-type]
    with open(tmp_path / FILE, "a") as file:
        file.write('{"step": 12, "loss')  # torn by a crash
    again = Receipt(tmp_path, World(), state)
    for step, loss in list(enumerate(losses(12), 1))[7:]:
        again.add({"train/loss": loss})
        if step % 5 == 0 or step == 12:
            again.write_losses(step, Method())  # type: ignore[arg-type]
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


@pytest.mark.parametrize("damage", ["gone", "short", "other"])
def test_a_receipt_that_does_not_reach_the_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    state = written(tmp_path, 5).state_dict()
    lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
    if damage == "gone":
        (tmp_path / FILE).unlink()
    else:
        text = lines[:-1] if damage == "short" else [*lines[:-1], lines[-2]]
        (tmp_path / FILE).write_text("".join(text))
    with pytest.raises(ConfigError, match="does not hold the 3 lines up to the checkpoint"):
        Receipt(tmp_path, World(), state)


def test_a_checkpoint_of_before_there_were_receipts_begins_one(tmp_path: Path) -> None:
    made = Receipt(tmp_path, World(), None)
    made.add({"train/loss": torch.tensor(2.0)})
    made.write_losses(41, Method())  # type: ignore[arg-type]
    (line,) = receipt.read(tmp_path / FILE)
    assert list(receipt.iterate_steps(line)) == [(41, {"train/loss": 2.0})]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_changed_digit_is_noticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    written(folder, 5)
    whole = receipt.read(folder / FILE)
    content = (folder / FILE).read_bytes()
    places = [k for k, c in enumerate(content) if chr(c).isdigit()]
    where = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in b"0123456789" if d != content[where]]))
    (folder / FILE).write_bytes(content[:where] + bytes([digit]) + content[where + 1 :])
    try:
        found = receipt.read(folder / FILE)
    except ConfigError as error:
        assert "does not follow from those before it" in str(error)  # noqa: PT017 — either outcome is right
    else:  # another digit far behind the point may be the same float64, and a 0 in front is no JSON
        assert found == whole[: len(found)]


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(max_size=80))
def test_a_torn_end_is_left_out(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    written(folder, 5)
    whole = receipt.read(folder / FILE)
    with open(folder / FILE, "ab") as file:
        file.write(junk)
    assert receipt.read(folder / FILE) == whole


def test_the_gradient_norm_is_over_all_parameters(tmp_path: Path) -> None:
    method = Method()
    assert receipt.gradient_norm(method) == 0.0
    method.weights[0].grad = torch.tensor([1.0, 2.0, 2.0])
    assert receipt.gradient_norm(method) == 3.0
    method.weights[1].grad = torch.full((2, 2), 2.0)
    assert receipt.gradient_norm(method) == 5.0
    method.weights[1].grad = torch.full((2, 2), float("inf"))  # fp16 that overflowed
    made = Receipt(tmp_path, World())
    made.write_losses(1, method)  # type: ignore[arg-type]
    told = agreement.collect_values(receipt.read(tmp_path / FILE))
    assert told == {(1, 1, "gradient norm"): float("inf")}


def test_a_checksum_is_of_names_types_shapes_and_values() -> None:
    base = {"a": torch.arange(24.0).reshape(1, 2, 3, 4), "n": torch.tensor(3)}
    told = checksum(base)
    assert told == checksum({"n": base["n"], "a": base["a"].contiguous(memory_format=torch.channels_last)})
    ulp = base["a"].clone()
    ulp[0, 1, 1, 1] = torch.nextafter(ulp[0, 1, 1, 1], torch.tensor(99.0))
    others = [
        {**base, "a": ulp},
        {**base, "a": base["a"].reshape(1, 2, 4, 3)},
        {**base, "a": base["a"].double()},
        {"b": base["a"], "n": base["n"]},
        {"a": base["a"]},
        {**base, "e": torch.empty(0)},
    ]
    assert len({told, *map(checksum, others)}) == 7
    parts = checksums({"model": base, "optimizer": {"state": {0: {"m": ulp}}, "lr": 0.1}, "scaler": {}})
    assert parts["model"] == told
    assert parts.keys() == {"model", "optimizer"}
    assert checksum({"h": torch.ones(3, dtype=torch.bfloat16)}) != checksum({"h": torch.ones(3, dtype=torch.float16)})


def side(first: float = 1.0, norm: float = 1.0, model: str = "aa") -> dict[agreement.Key, agreement.Value]:
    lines = [
        {"step": 2, "losses": {"train/loss": [first, 0.5]}, "gradient_norm": norm},
        {"step": 2, "checksums": {"model": "same"}},
        {"step": 4, "losses": {"train/loss": [0.25, 0.125]}, "gradient_norm": 1.0},
        {"step": 4, "checksums": {"model": model}},
    ]
    return agreement.collect_values(lines)


def test_two_receipts_side_by_side() -> None:
    same = agreement.compare_receipts(side(), side(), 0, 4, 0.0)
    assert (same.losses, same.norms, same.checksums, same.is_exact, same.last_sound_step) == (4, 2, 2, True, 4)
    part = agreement.compare_receipts(side(), side(), 2, 4, 0.0)
    assert (part.losses, part.norms, part.checksums) == (2, 1, 1)

    off = agreement.compare_receipts(side(), side(first=1.001), 0, 4, 0.0)
    assert off.first == off.first_beyond_tolerance == off.largest
    assert off.first is not None
    assert (off.first.step, off.first.name) == (1, "train/loss")
    assert off.first.relative == pytest.approx(1e-3, rel=1e-2)
    assert agreement.compare_receipts(side(), side(first=1.001), 0, 4, 1e-2).first_beyond_tolerance is None
    assert agreement.compare_receipts(side(), side(first=1.001), 1, 4, 0.0).is_exact

    weights = agreement.compare_receipts(side(), side(model="bb"), 0, 4, 0.0)
    assert weights.first is not None
    assert (weights.first.step, weights.first.name, weights.last_sound_step) == (4, "the model's checksum", 2)
    assert weights.first_beyond_tolerance == weights.first
    assert agreement.compare_receipts(side(), side(model="bb"), 0, 4, 1e-9).first_beyond_tolerance is None, (
        "a tolerance is of numbers"
    )

    nan = agreement.compare_receipts(side(norm=float("nan")), side(norm=float("nan")), 0, 4, 0.0)
    assert nan.is_exact
    worse = agreement.compare_receipts(side(), side(norm=float("nan")), 0, 4, 1.0)
    assert worse.first_beyond_tolerance is not None
    assert worse.first_beyond_tolerance.step == 2
    assert not agreement.compare_receipts(side(norm=0.0), side(norm=-0.0), 0, 4, 0.0).is_exact


def test_fingerprints_side_by_side() -> None:
    assert agreement.diff_fingerprints({"torch": "1", "threads": 1}, {"torch": "1", "threads": 1}) == {}
    found = agreement.diff_fingerprints({"torch": "1", "threads": 1}, {"torch": "2", "optimizer": "x"})
    assert found == {"torch": ("1", "2"), "threads": (1, None), "optimizer": (None, "x")}

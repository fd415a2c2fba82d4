"""The bench of the loop: a loop that does other work is not timed; turns and parts are what they are called."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paribus.bench.loop import cases as loop
from paribus.bench.loop import recipes
from paribus.bench.loop.cases import (
    BARE,
    LOOP,
    InterleavingLoader,
    Training,
    compute_shares,
    measure_difference,
    measure_loop,
    time_loop,
)
from paribus.bench.loop.stages import PARTS, StageTimer
from paribus.cli.main import dispatch
from paribus.core.batch import Batch

CPU = torch.device("cpu")
SMOKE = ("experiment=smoke", "every.log=5ba", "runtime.device=cpu", "runtime.threads=1")


def subject(*extra: str) -> loop.Subject:
    overrides, data = recipes.load_data((*SMOKE, *extra), CPU)
    return recipes.make_subject("smoke", overrides, 0.95, CPU, data)


def sabotaged(wrong: Any) -> loop.Subject:
    """The loop gets another loader than the plain steps."""
    honest = subject()

    def make(steps: int, stages: StageTimer | None) -> Training:
        made = honest.make(steps, stages)
        return replace(made, loader=wrong(made.loader))

    return replace(honest, make=make)


class OneBatch:
    """A loader that would win every bench: it gives the first batch again and again."""

    def __init__(self, loader: Any) -> None:
        self.steps_per_epoch, self._batch = loader.steps_per_epoch, loader.batch(0)

    def batch(self, step: int) -> Batch:
        return self._batch


class Halved(OneBatch):
    """Half of the samples are left out."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self._loader = loader

    def batch(self, step: int) -> Batch:
        return next(self._loader.batch(step).split(2))


@pytest.mark.parametrize("extra", [(), ("optimizer=sgd", "optimizer.lr=0.05"), ("runtime.fused=true",)])
def test_the_loop_moves_the_weights_as_plain_steps_do_to_the_last_bit(extra: tuple[str, ...]) -> None:
    assert measure_difference(subject(*extra)) == 0.0


@pytest.mark.parametrize("wrong", [OneBatch, Halved])
def test_negative_control_a_sabotaged_loader_is_told_and_not_timed(wrong: Any) -> None:
    result = measure_loop(sabotaged(wrong), 1, 1e-3)
    assert result.row(LOOP).status == "wrong"
    assert result.row(LOOP).seconds == ()
    assert result.verdicts[0].status == "not measured"
    assert not result.is_correct


def test_a_round_is_a_slice_of_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "WARM_UP", 1)
    result = measure_loop(subject(), 3, 1e-3)
    assert result.is_correct
    assert [len(row.seconds) for row in result.rows] == [3, 3]
    assert all(0 < s < 1 for row in result.rows for s in row.seconds)
    assert result.verdicts[0].target.against == BARE


def test_the_bare_step_has_its_turn_before_every_slice_and_the_loop_none_of_its_time() -> None:
    now, events = [0.0], list[Any]()

    class Ticking:
        steps_per_epoch = 100

        def batch(self, step: int) -> Any:
            events.append(step)
            now[0] += 2.0
            return None

    def bare() -> None:
        events.append("bare")
        now[0] += 1.0

    turns = InterleavingLoader(Ticking(), bare, 3, CPU, None)
    turns._now = lambda: now[0]
    turns._clock = lambda call, times: (before := now[0], [call() for _ in range(times)], now[0] - before)[-1]
    for step in range(7):
        turns.batch(step)
    assert events == ["bare"] * 3 + [0, 1, 2] + ["bare"] * 3 + [3, 4, 5] + ["bare"] * 3 + [6]
    assert turns.loop == [2.0, 2.0]
    assert turns.bare == [1.0, 1.0, 1.0]


def test_parts_add_up_to_the_step() -> None:
    found = time_loop(subject("technique=cutmix"), 3, 1e-3, watched=True)
    assert set(found.parts) == set(PARTS)
    assert all(len(seconds) == 3 for seconds in found.parts.values())
    of = compute_shares(found)
    assert all(of[part] > 0 for part in ("data", "transforms", "forward", "backward", "optimizer", "rest"))
    for k, whole in enumerate(found.loop):
        assert sum(seconds[k] for seconds in found.parts.values()) < whole
    assert time_loop(subject(), 1, 1e-3, watched=True).parts["transforms"] == (0.0,)


def test_what_the_update_takes_beside_forward_and_optimizer_is_backward() -> None:
    stages = StageTimer(CPU)
    for part, seconds in {"update": 10.0, "forward": 3.0, "optimizer": 2.0, "data": 1.0}.items():
        stages.add(part, seconds)
    taken = stages.pop_seconds()
    assert taken["backward"] == 5.0
    assert sum(taken.values()) == 11.0
    assert set(stages.pop_seconds().values()) == {0.0}


def test_each_row_runs_under_its_own_numerics_and_the_next_under_its_own_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows that say tf32 once changed nothing."""
    of_rows: list[set[Any]] = []
    step = loop.PlainTraining.step

    def noted(self: Any, batch: Batch) -> None:
        of_rows[-1].add((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        step(self, batch)

    monkeypatch.setattr(loop.PlainTraining, "step", noted)
    monkeypatch.setattr(loop, "WARM_UP", 0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    rows = {"tf32": ("high", True), "as it is": ("highest", False)}
    monkeypatch.setattr(recipes, "SWITCHES", {name: recipes.SWITCHES[name] for name in rows})
    before = torch.get_float32_matmul_precision()
    try:
        recipes._measure_switches("smoke", SMOKE, CPU, 1, 1e-4, lambda _: of_rows.append(set()))
    finally:
        torch.set_float32_matmul_precision(before)
    assert of_rows == [{numerics} for numerics in rows.values()]


def test_the_page_has_the_loop_its_parts_and_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "SMALLEST", ("a small net", SMOKE, 0.95, 1e-3))
    page, data = tmp_path / "loop.md", tmp_path / "loop.json"
    arguments = ["--quick", "--repeats", "2", "--threads", "1", "--device", "cpu"]
    assert dispatch(["bench", "loop", *arguments, "--out", str(page), "--json", str(data)]) == 0
    text = page.read_text()
    for said in (
        "paribus bench loop --quick",
        "a small net, cutmix",
        "Where a step's time goes",
        "| bare step |",
        "95%",
    ):
        assert said in text
    cases = json.loads(data.read_text())["cases"]
    assert [len(row["samples"]) for row in cases[0]["rows"]] == [2, 2]

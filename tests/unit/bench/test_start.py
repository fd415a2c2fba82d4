"""The bench of the start: processes that fail or print something else are told; phases are those of a first step."""

import json

import pytest
import torch

from paribus.bench.start.cases import ProcessCommand, measure_phases
from paribus.bench.start.first_step import SMALL, first_step

CPU = torch.device("cpu")


def test_phases_are_rows_and_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([{"a": 9.0, "in all": 9.0}, {"a": 1.0, "in all": 2.0}, {"a": 3.0, "in all": 4.0}])
    monkeypatch.setattr(ProcessCommand, "run", lambda self: "noise\n" + json.dumps(next(told)))
    result = measure_phases(("experiment=smoke",), CPU, 2, lambda line: None)
    assert {row.name: row.seconds for row in result.rows} == {"a": (1.0, 3.0), "in all": (2.0, 4.0)}


def test_a_first_step_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    first_step([*SMALL, "runtime.threads=1"], "cpu")
    seconds = json.loads(capsys.readouterr().out)
    assert list(seconds)[-2:] == ["first step", "in all"]
    assert sum(list(seconds.values())[:-1]) == pytest.approx(seconds["in all"], rel=0.1)

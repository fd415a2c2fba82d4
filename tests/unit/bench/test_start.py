"""The bench of the start: processes that fail or print something else are told; phases are those of a first step."""

import json
from pathlib import Path

import pytest
import torch

from paribus.bench.harness.measure import measure
from paribus.bench.start import cases
from paribus.bench.start.cases import Command, commands, phases
from paribus.bench.start.first_step import SMALL, first_step
from paribus.cli.main import dispatch

CPU = torch.device("cpu")
FEW = (
    Command("import torch", "torch", ("-c", "pass")),  # stands for it: the table's 1.00
    Command("prints", "paribus", ("-c", "print('paribus train')"), "paribus train"),
    Command("prints something else", "paribus", ("-c", "print('usage')"), "paribus train"),
    Command("fails", "paribus", ("-c", "raise SystemExit('no such module')")),
)


def test_twin_what_fails_or_prints_something_else_is_not_timed() -> None:
    result = measure(commands(FEW), CPU, 1, 0.0)
    assert [row.status for row in result.rows] == ["measured", "measured", "wrong", "failed"]
    assert result.row("fails").note == "RuntimeError: no such module"
    assert not result.right
    assert result.baseline is result.row("import torch")


def test_phases_are_rows_and_make_up_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([{"a": 9.0, "in all": 9.0}, {"a": 1.0, "in all": 2.0}, {"a": 3.0, "in all": 4.0}])
    monkeypatch.setattr(Command, "run", lambda self: "noise\n" + json.dumps(next(told)))
    result = phases(("experiment=smoke",), CPU, 2, lambda line: None)
    assert {row.name: row.seconds for row in result.rows} == {"a": (1.0, 3.0), "in all": (2.0, 4.0)}


def test_a_first_step_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    first_step([*SMALL, "runtime.threads=1"], "cpu")
    seconds = json.loads(capsys.readouterr().out)
    assert list(seconds)[-2:] == ["first step", "in all"]
    assert sum(list(seconds.values())[:-1]) == pytest.approx(seconds["in all"], rel=0.1)


def test_the_page_names_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases.commands, "__defaults__", (FEW[:2],))
    monkeypatch.setattr(cases, "phases", lambda *a: measure(commands(FEW[:2]), CPU, 1, 0.0))
    page = tmp_path / "start.md"
    arguments = ["--quick", "--repeats", "1", "--device", "cpu", "--out", str(page)]
    assert dispatch(["bench", "start", *arguments]) == 0
    assert "| `prints` | paribus" in page.read_text()

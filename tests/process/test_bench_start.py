"""The bench of the start: processes that fail or print something else are told."""

from pathlib import Path

import pytest
import torch

from paribus.bench.harness.measure import measure
from paribus.bench.start import cases
from paribus.bench.start.cases import ProcessCommand, make_process_case
from paribus.cli.main import dispatch

CPU = torch.device("cpu")
FEW = (
    ProcessCommand("import torch", "torch", ("-c", "pass")),  # stands for it: the table's 1.00
    ProcessCommand("prints", "paribus", ("-c", "print('paribus train')"), "paribus train"),
    ProcessCommand("prints something else", "paribus", ("-c", "print('usage')"), "paribus train"),
    ProcessCommand("fails", "paribus", ("-c", "raise SystemExit('no such module')")),
)


def test_negative_control_what_fails_or_prints_something_else_is_not_timed() -> None:
    result = measure(make_process_case(FEW), CPU, 1, 0.0)
    assert [row.status for row in result.rows] == ["measured", "measured", "wrong", "failed"]
    assert result.row("fails").note == "RuntimeError: no such module"
    assert not result.is_correct
    assert result.baseline is result.row("import torch")


def test_the_page_names_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases.make_process_case, "__defaults__", (FEW[:2],))
    monkeypatch.setattr(cases, "measure_phases", lambda *a: measure(make_process_case(FEW[:2]), CPU, 1, 0.0))
    page = tmp_path / "start.md"
    arguments = ["--quick", "--repeats", "1", "--device", "cpu", "--out", str(page)]
    assert dispatch(["bench", "start", *arguments]) == 0
    assert "| `prints` | paribus" in page.read_text()

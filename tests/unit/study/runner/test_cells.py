"""Cells: their overrides on a command line, and how they stand."""

from pathlib import Path

import pytest

from helpers.studies import finished, made_up_plan, written
from paribus.study.runner.cells import log_path, quote_override, read_state


@pytest.mark.parametrize(
    "text", ["a b", "x=y", "it's", "a\\", "b\\'c", "runs/ü", "a,b", "[x]", "5", "null", "/tmp/x-1.2"]
)
def test_values_survive_hydras_grammar(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(f"key={quote_override(text)}").value()
    assert getattr(value, "text", value) == text


def test_the_states_of_a_cell(tmp_path: Path) -> None:
    cell = made_up_plan(written(tmp_path / "study")).cells[0]
    folder, log = tmp_path / cell.folder, log_path(tmp_path, cell)
    assert read_state(tmp_path, cell).state == "waiting"
    assert read_state(tmp_path, cell, recorded=True).state == "done"
    log.write_text("== start 2026-01-01T00:00:00+00:00 CUDA_VISIBLE_DEVICES=1 x\n")
    assert read_state(tmp_path, cell).state == "waiting", "it was started, and nobody runs it"
    log.write_text(log.read_text() + "paribus: no good\n== ended with 2 now\n")
    failed = read_state(tmp_path, cell)
    assert (failed.state, failed.why) == ("failed", "paribus: no good")
    log.write_text("== start\n== ended with 75 now\n")
    assert read_state(tmp_path, cell).state == "waiting"
    log.write_text("== start\n== ended with -9 now\n")
    assert read_state(tmp_path, cell).state == "failed"
    log.write_text("== start\n== ended with -15 now\n")
    assert read_state(tmp_path, cell).state == "waiting", "it was asked to stop before it could write a checkpoint"
    finished(folder, cell, state="FAILED", why="the loss\n\nTraceback")
    assert read_state(tmp_path, cell).why == "the loss"
    assert read_state(tmp_path, cell, recorded=True).state == "done"
    (folder / "DONE").touch()
    assert read_state(tmp_path, cell).state == "done"

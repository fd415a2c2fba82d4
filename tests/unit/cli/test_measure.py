"""`paribus study measure` on cells whose run folders are not here: it says so and fails, as nothing was measured."""

from pathlib import Path

import pytest

from helpers.studies import made_up_plan, row, written
from paribus.cli.main import dispatch
from paribus.core.exit_codes import FAILED
from paribus.study.rows import update_rows


def test_without_any_checkpoint_it_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = written(tmp_path / "study")
    plan = made_up_plan(study)
    update_rows(study, [row(cell) for cell in plan.cells], plan.ids())
    words = ["study", "measure", str(study.folder), "--evaluators", "calibration", "--runs", str(tmp_path / "runs")]
    assert dispatch(words) == FAILED
    assert "no run folder" in capsys.readouterr().err

"""`paribus verify STUDY --cell` that is interrupted: Ctrl-C and SIGTERM leave neither its training nor its folder."""

import signal
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import finished, made_up_plan, written
from paribus.cli.main import dispatch
from paribus.study.rows import format_row, read_row
from paribus.study.runner import verify_cell as module


class Interrupted:
    """A process during which the command gets a signal; it ends when it is told to."""

    def __init__(self, number: int) -> None:
        self.number, self.code = number, None

    def wait(self) -> int:
        if self.code is None:
            signal.raise_signal(self.number)
        return self.code or 0

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_neither_training_nor_folder(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = written(tmp_path / "study", seeds=2)
    cell = made_up_plan(study).by_name()["cutmix/s0"]
    finished(tmp_path / cell.folder, cell, 0.5)
    row = read_row(tmp_path / cell.folder, "study", cell.arm)
    assert row is not None
    study.results_path.write_text(format_row(row))
    folders: list[Path] = []
    processes: list[Interrupted] = []

    def start(runs: Path, *_: Any, **__: Any) -> Interrupted:
        folders.append(runs)
        processes.append(Interrupted(number))
        return processes[0]

    monkeypatch.setattr(module, "start_process", start)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left:
        dispatch(["verify", str(study.folder), "--cell", "cutmix/s0"])
    assert left.value.code == 128 + number
    assert processes[0].code == 75
    assert not folders[0].exists()
    assert signal.getsignal(number) is before
    assert "interrupted, before a verdict" in capsys.readouterr().err

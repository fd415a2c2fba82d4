"""The process that talks to W&B."""

import subprocess
from pathlib import Path

import pytest

from paribus.tracking.wandb import start_follower


def test_the_follower_runs_no_file_of_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("random.py", "wandb.py", "secrets.py"):
        (tmp_path / name).write_text("open('EVIL', 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert start_follower(run, subprocess.DEVNULL, "--help").wait(60) == 0
    assert not (tmp_path / "EVIL").exists()

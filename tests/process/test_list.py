"""`paribus list runs` as a process: at once."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers.run_folders import made


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """200 of them."""
    for i in range(200):
        made(tmp_path / "runs", f"study-{i % 5}-s{i}", "DONE" if i % 4 else None)
    return tmp_path / "runs"


COUNTING = """
import sys
opened = []
sys.addaudithook(lambda event, said: event == "open" and str(said[0]).startswith("runs/") and opened.append(said[0]))
from paribus.cli.main import dispatch
dispatch(["list", "runs"])
print(len(opened), len(set(opened)), "torch" in sys.modules)
"""


def test_what_it_reads_of_a_run_is_little_and_read_once_without_torch(runs: Path) -> None:
    command = [sys.executable, "-c", COUNTING]
    shown = subprocess.run(command, cwd=runs.parent, capture_output=True, text=True, check=True).stdout
    opened, files, torch = shown.splitlines()[-1].split()
    assert int(opened) == int(files) <= 5 * 200
    assert torch == "False"


@pytest.mark.timing
def test_200_runs_take_under_half_a_second(runs: Path, paribus: Callable[..., CompletedProcess[str]]) -> None:
    seconds: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        done = paribus("list", "runs", cwd=runs.parent)
        seconds.append(time.perf_counter() - start)
    assert done.stdout.count("\n") == 203
    assert min(seconds) < 0.5

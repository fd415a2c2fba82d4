"""The notebooks of examples/ run from their top, and what is committed of them was made so."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first_study.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_its_outputs_are_those_of_one_run_from_the_top(path: Path) -> None:
    found = cells(path)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    outputs = [output for cell in found for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert len(path.read_bytes()) < 200_000
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text())
    assert not re.search(r"/(home|root|work|tmp|usr)/", text), "a path of the machine that ran it"


@pytest.mark.slow  # a kernel, a run and a study of six processes: half a minute on two idle cores
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "notebooks.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{path.name}: executed" in done.stdout
    assert path.read_bytes() == before

"""`paribus judge` as a process: what it imports, standard input and output, exit codes, a terminal without Unicode."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paribus.cli.main import dispatch

HEAVY = ("torch", "torchvision", "scipy.stats", "matplotlib", "pandas", "hydra", "omegaconf", "pydantic", "sklearn")
RUNS = "arm,seed,acc\n" + "".join(
    f"{arm},{seed},{0.9 + shift + 0.001 * ((3 * seed + len(arm)) % 7):.4f}\n"
    for arm, shift in (("base", 0.0), ("cutmix", 0.02), ("mixup", 0.0))
    for seed in range(10)
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs.csv").write_text(RUNS)
    return tmp_path / "runs.csv"


def run(*words: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paribus.cli", *words],
        input=text,
        capture_output=True,
        text=True,
        env={**{key: value for key, value in os.environ.items() if key != "COLUMNS"}, **env},  # xdist sets it
        encoding="utf-8",
    )


def imported(words: list[str]) -> list[str]:
    code = (
        "import os, sys\nfrom paribus.cli.main import dispatch\n"
        f"code = dispatch({['judge', *words]!r})\n"
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.split(" ", 1)[1].strip().strip("[]").replace("'", "").split(", ")


def test_a_verdict_needs_nothing_heavy(runs: Path, tmp_path: Path) -> None:
    files = [f"--html={tmp_path / 'v.html'}", f"--json={tmp_path / 'v.json'}", f"--junit={tmp_path / 'v.xml'}"]
    words = [str(runs), "--margin=1", "--fail-if=worse,maybe-worse,not-equivalent", *files]
    assert imported(words) == [""]
    assert {path.name for path in tmp_path.iterdir()} == {"runs.csv", "v.html", "v.json", "v.xml"}


def test_examples_need_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "right.csv").write_text("a,b,cluster\n" + "1,0,x\n0,1,y\n1,1,z\n" * 9)
    assert imported([str(tmp_path / "right.csv"), "--examples", "--against=a", "--margin=5"]) == [""]


def test_twin_a_heavy_import_is_found(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import scipy.stats\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert "scipy.stats" in imported([str(runs)])


def test_standard_input_and_output(runs: Path, tmp_path: Path) -> None:
    words = ("--margin", "1", "--fail-if", "worse")
    piped = run("judge", "-", *words, text=RUNS)
    named = run("judge", str(runs), *words)
    assert piped.returncode == named.returncode == 0
    assert piped.stdout.replace("standard input", str(runs)) == named.stdout
    assert "cutmix is better than base." in named.stdout
    assert "├" in named.stdout
    out = tmp_path / "verdict.txt"
    silent = run("judge", str(runs), *words, "--out", str(out))
    assert (silent.returncode, silent.stdout) == (0, "")
    assert out.read_text() == named.stdout
    found = run("judge", str(runs), *words, "--json", "-")
    assert json.loads(found.stdout)["comparisons"][0]["verdict"] == "better"


@pytest.mark.parametrize(
    ("conditions", "code"),
    [("worse", 0), ("not-better", 1), ("undecided", 0), ("incomplete", 0), ("worse,not-equivalent", 1), ("wors", 2)],
)
def test_exit_codes(runs: Path, conditions: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["judge", str(runs), "--margin", "1", "--fail-if", conditions]) == code
    assert ("FAIL  " in capfd.readouterr().out) == (code == 1)


def test_a_terminal_without_unicode_gets_another_plot(runs: Path) -> None:
    done = run("judge", str(runs), PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "|---" in done.stdout
    assert "├" not in done.stdout


def test_the_search_of_the_page_asks_for_more_and_takes_what_is_better(runs: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "judging.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert code is not None
    space: dict[str, Any] = {}
    exec(code[1].replace('"paribus",', f'{sys.executable!r}, "-m", "paribus.cli",'), space)
    rows = [line.replace("base,", "incumbent,") for line in RUNS.splitlines() if not line.startswith("mixup")]
    assert space["is_better"]("\n".join(rows)) is True
    few = [rows[0], *(row for row in rows if ",0," in row or ",1," in row)]
    close = [row.replace("0.92", "0.90") for row in few]
    assert space["is_better"]("\n".join(close)) not in (True, False)
    with pytest.raises(ValueError, match="is empty"):
        space["is_better"]("")


def test_the_lines_for_ci_run_as_written(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "judging.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert block is not None
    training, *lines = re.findall(r"- run: (.*)", block[1])
    assert "--out new.csv" in training
    shell = "\n".join(lines).replace("paribus judge", f"{shlex.quote(sys.executable)} -m paribus.cli judge")
    values = {seed: 0.9 + 0.001 * ((3 * seed) % 7) for seed in range(8)}
    for arm, shift in (("main", 0.0), ("new", 0.0004)):
        rows = (f"{arm},{seed},{value + shift * (1 + seed % 2):.4f}\n" for seed, value in values.items())
        (tmp_path / f"{arm}.csv").write_text("arm,seed,acc\n" + "".join(rows))
    done = subprocess.run(["bash", "-ec", shell], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'failures="0"' in (tmp_path / "verdict.xml").read_text()
    lost = (tmp_path / "new.csv").read_text().replace("new,0,0.90", "new,0,0.80")
    (tmp_path / "new.csv").write_text(lost)
    done = subprocess.run(["bash", "-ec", shell], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1, "one bad seed leaves open whether there is a loss"

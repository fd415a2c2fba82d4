"""The `paribus` of the tests forks its processes from a warm one. They must do what a fresh interpreter does."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

import pytest

from helpers.warm_commands import WarmCommands

Run = Callable[..., CompletedProcess[str]]
SMOKE = ("train", "experiment=smoke", "technique=cutmix", "steps=4ba", "runtime.threads=1", "tracker=[events,console]")
LAB = "from paribus.core.build import schema\n@schema\nclass Flat:\n    smoothing: float = 0.0\n"


def test_the_same_bits_files_and_words_as_from_a_fresh_interpreter(paribus: Run, tmp_path: Path) -> None:
    found = []
    for name in ("warm", "fresh"):
        (tmp_path / name).mkdir()
        done = paribus(*SMOKE, cwd=tmp_path / name, fresh=name == "fresh")
        (folder,) = (tmp_path / name / "runs").iterdir()
        said = re.sub(r" *[\d.,]+ (?=s of|s in|images/s)", "", done.stdout)
        files = sorted(path.name for path in folder.iterdir())
        found.append((done.returncode, done.stderr, said, files, (folder / "receipts.jsonl").read_text()))
    assert found[0] == found[1]
    other = paribus(*SMOKE, "seed=1", cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert other.returncode == 0
    assert (folder / "receipts.jsonl").read_text() != found[0][-1]


def test_a_command_leaves_nothing_for_the_next_one(paribus: Run, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "warm_lab.py").write_text(f"{LAB}    def __call__(self, model, batch, at): 1 / 0\n")
    words = (*SMOKE, "packages=[warm_lab]", "objective._target_=warm_lab.Flat")
    with_lab = paribus(*words, cwd=tmp_path, PYTHONPATH=str(tmp_path / "lab"), PARIBUS_DEBUG="1")
    assert with_lab.returncode == 1
    assert "ZeroDivisionError" in with_lab.stderr
    assert "Traceback" in with_lab.stderr
    without = paribus(*words, cwd=tmp_path)
    assert without.returncode == 2
    assert without.stderr.count("\n") == 1


def test_what_an_interpreter_reads_as_it_starts_gets_a_fresh_one() -> None:
    warm, here = WarmCommands(), {**os.environ, "OMP_NUM_THREADS": "1"}
    assert warm.is_warm(["train"], here)
    assert warm.is_warm(["train"], {**here, "PYTHONPATH": "lab", "PARIBUS_DEBUG": "1"})
    assert not warm.is_warm(["study", "run"], here)
    for name in ("OMP_NUM_THREADS", "PYTHONIOENCODING", "CUDA_VISIBLE_DEVICES", "LC_ALL", "RANK"):
        assert not warm.is_warm(["train"], {**here, name: "7"}), name


def test_a_command_that_takes_too_long_is_killed_and_the_next_one_runs(paribus: Run, tmp_path: Path) -> None:
    with pytest.raises(TimeoutExpired):
        paribus(*SMOKE[:-3], "steps=100000ba", "tracker=events", cwd=tmp_path, seconds=1)
    assert paribus(*SMOKE, "optimizer.lr=-1", cwd=tmp_path).returncode == 2

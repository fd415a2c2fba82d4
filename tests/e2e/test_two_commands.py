"""The README's two commands, one after the other in one clone: the demo leaves git clean, and the tests then pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paribus.recipe.compose import compose_config

ROOT = Path(__file__).parents[2]
STUDY = """\
question: Does the demo leave the clone as it was?
recipe: [experiment=smoke, steps=4ba]
arms: {baseline: [], cutmix: [technique=cutmix]}
seeds: [0, 1]
metric: val/acc1
smallest_effect: 0.01
settings: {untuned: those of the recipe}
threads: 1
"""
# what of scripts/test.sh reads files that a demo could have changed
READS_RECORDS = (
    "tests/unit/study/report/test_results_table.py::test_this_checkout_says_what_its_rows_say",
    "tests/architecture/test_cards.py",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what git has, with the working tree's tracked files, committed."""
    done = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    there = tmp_path / "clone"
    there.mkdir()
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, there / name)
    git(there, "init", "--quiet")
    git(there, "add", "--all")
    git(there, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "as it is")
    return there


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def environment_of(clone: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of these tests with the clone's code in it. `python -m pip` does nothing, so that the clone is
    not installed over the checkout under test."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, command in {
        "python": f'case "$1 $2" in "-m pip") exit 0;; esac\nexec {sys.executable} "$@"',
        "paribus": f'exec {sys.executable} -m paribus.cli "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{command}\n")
        (tools / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "PYTHONPATH": str(clone / "src"),
        "OMP_NUM_THREADS": "1",
    }


def run_both(clone: Path, tmp_path: Path, *arguments: str) -> str:
    """The demo, then the tests; returns what the demo printed."""
    environment = environment_of(clone, tmp_path)
    demo = subprocess.run(
        ["bash", "scripts/demo.sh", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert git(clone, "status", "--porcelain") == ""
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *READS_RECORDS],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    return demo.stdout


def check_last_lines(said: str, clone: Path) -> None:
    """After its training the demo says what was found, where the report is, how long it took, and two commands."""
    found = said.partition("What the study found:\n")[2]
    assert re.search(r"^\* .*baseline.*\n  .+ seeds$", found, flags=re.MULTILINE)
    (report,) = re.findall(r"open (\S+/report\.html)", found)
    assert (clone / report).is_file()
    assert re.search(r"\d+ min \d+ s installation, \d+ min \d+ s study\n", found)
    commands = re.findall(r": +paribus train (.+)", found)
    assert len(commands) == 2
    for command in commands:
        compose_config(command.split())  # raises what `paribus train` would refuse


def test_the_demo_leaves_git_clean_and_then_the_tests_pass(clone: Path, tmp_path: Path) -> None:
    """With a study of four short runs; 30 s, since each run is a process of its own."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "study.yaml").write_text(STUDY)
    said = run_both(clone, tmp_path, str(tmp_path / "tiny"))
    assert "4 of 4 done" in said
    check_last_lines(said, clone)
    assert (clone / "runs" / "demo" / "tiny" / "results.jsonl").is_file()


def test_negative_control_a_demo_that_writes_where_the_record_is_would_be_seen(clone: Path) -> None:
    (clone / "experiments" / "quickstart" / "results.jsonl").write_text("")
    assert git(clone, "status", "--porcelain") != ""


@pytest.mark.slow
def test_the_whole_demo(clone: Path, tmp_path: Path) -> None:
    said = run_both(clone, tmp_path)
    assert "24 of 24 done" in said
    check_last_lines(said, clone)
    ours, recorded = (
        sorted((clone / where / "quickstart" / "results.jsonl").read_text().splitlines())
        for where in ("runs/demo", "experiments")
    )
    assert len(ours) == len(recorded) == 24

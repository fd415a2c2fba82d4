"""A user's own code in processes: what `paribus new` prints is run as it stands, and a cell finds the package and the
configs of the folder that it is started in."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.own_configs import written_lab
from helpers.studies import written

Shell = Callable[[str], str]
SLOW = ("paribus check", "paribus study", "paribus doctor")  # seconds each; the others run always


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run lines in a shell of an empty folder, whose `paribus` is this one without the current folder on its path."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in {"paribus": "-P -m paribus.cli", "python": ""}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PATH": f"{commands}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(lines: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", lines], cwd=work, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def printed(out: str) -> list[str]:
    """The commands that were printed, with the cd before them."""
    return [line.strip().partition("  ")[2].strip() for line in out.partition("next\n")[2].splitlines()]


def chosen(commands: list[str], slow: bool) -> str:
    go = [command for command in commands if command.startswith("cd ")]
    return "\n".join([*go, *(c for c in commands if c not in go and c.startswith(SLOW) == slow)])


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_commands_for_a_technique_work_as_printed(shell: Shell, slow: bool) -> None:
    commands = printed(shell("paribus new technique own_idea --into 'a lab'"))
    assert commands[0] == "cd 'a lab'"
    assert len(commands) == 5
    out = shell(chosen(commands, slow))
    assert re.search(r"own_idea: \d+ ok in " if slow else "done: quickstart-own_idea-s0", out), "all ok, none skipped"
    if not slow:
        assert "experiments/own_idea_digits/study.yaml" in out


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_commands_for_data_work_as_printed(shell: Shell, slow: bool) -> None:
    commands = printed(shell("paribus new data own_shapes"))
    assert len(commands) == 2
    out = shell(chosen(commands, slow))
    assert ("train 400, val 100 images" if slow else "val     acc1 ") in out


@pytest.mark.slow
def test_the_commands_for_a_study_work_as_printed(shell: Shell) -> None:
    shell("paribus new technique own_idea")
    commands = printed(shell("paribus new study own_study"))
    assert len(commands) == 3
    out = shell("\n".join(commands))
    assert "4 of 4 done" in out
    assert "Whether own_idea differs from baseline is undecided" in out


def test_a_cell_finds_the_package_of_the_folder_and_the_configs_of_the_study(shell: Shell, tmp_path: Path) -> None:
    """As Slurm starts it; the local launcher starts the same command."""
    written_lab(tmp_path / "work", "cell_lab")
    arms = {"baseline": [], "tint": ["technique=tint"]}
    recipe = ["experiment=smoke", "steps=2ba"]
    written(tmp_path / "work" / "s", arms=arms, recipe=recipe, seeds=1, config_dir="../my configs")
    shell("paribus study plan s --quiet\nparibus study cell s --cell tint/s0")
    (folder,) = (tmp_path / "work" / "runs" / "s").glob("smoke-tint-s0-*/DONE")
    assert "cell_lab.Tint" in (folder.parent / "config.yaml").read_text()

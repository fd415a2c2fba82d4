"""The README's commands and example are executed as they stand."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from helpers.own_configs import forget_modules
from paribus.cli.main import dispatch
from paribus.conformance.battery import CHECKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.splitlines()
    if line.startswith("paribus ")
]


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_understood(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Trainings are composed and checked; what takes seconds is run."""
    monkeypatch.chdir(tmp_path)
    if "--config-dir" in command:  # what the command before it has written; one check of the battery is enough here
        forget_modules(monkeypatch, "mine")
        assert dispatch(["new", "technique", "mine"]) == 0
        monkeypatch.setattr("paribus.conformance.battery.CHECKS", dict([*CHECKS.items()][:1]))
    if command[1] == "train" and "-m" not in command and "--help" not in command:
        command = [*command, "--cfg", "job"]
    if command[1] in ("study", "results"):  # all rows are on record, so nothing trains
        shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
        (tmp_path / "README.md").write_text(README)
        (tmp_path / "docs").mkdir()
        for name in ("results.md", "results.svg"):
            shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    of_a_run = command[1] in ("eval", "predict", "export", "verify")
    if command[1] == "judge":
        rows = [
            f"{arm},{seed},{50 + 3 * k + seed / 10}" for k, arm in enumerate(("baseline", "mine")) for seed in range(6)
        ]
        (tmp_path / "results.csv").write_text("\n".join(["arm,seed,accuracy", *rows]))
    if of_a_run or command[1:3] in (["data", "prepare"], ["data", "check"], ["study", "measure"]):
        assert dispatch([c for c in command[1:] if c != "--download"]) == 2  # NAME, DIR are for the reader to fill in
        return
    assert dispatch([*command[1:], *(["steps=2ba"] if "-m" in command else [])]) == 0
    assert "Traceback" not in capfd.readouterr().err


def test_the_library_example_runs() -> None:
    (example,) = [block for kind, block in BLOCKS if kind == "python"]
    scope: dict[str, object] = {}
    exec(example, scope)
    assert scope["targets"].shape == (8, 10)  # type: ignore[attr-defined]


def test_the_quickstart_of_the_readme_reaches_97_percent(
    paribus: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    import json

    done = paribus("train", "experiment=quickstart", "technique=cutmix", "runtime.threads=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "summary.json").read_text())["metrics"]["val/acc1"] >= 0.97

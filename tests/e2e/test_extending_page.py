"""docs/extending.md: its files are written and its commands are run in the order of the page, as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from helpers.own_configs import forget_modules
from paribus.cli.main import dispatch
from paribus.conformance.battery import CHECKS

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
FILES = re.findall(r"`([\w/]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


def test_every_command_of_the_page_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    forget_modules(monkeypatch, "mine", "lab", "shapes")
    monkeypatch.setattr("paribus.conformance.battery.CHECKS", dict([*CHECKS.items()][:1]))  # all: test_conformance.py
    for name, text in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (len(FILES), len(COMMANDS)) == (3, 10)
    for command in COMMANDS:
        code = dispatch(shlex.split(command)[1:])
        assert (command, code, capfd.readouterr().err) == (command, 0, "")
    names = {path.parent.name.rpartition("-s0-")[0] for path in (tmp_path / "runs").glob("*/DONE")}
    assert names == {"quickstart-mine", "lab-baseline", "smoke-baseline", "run-baseline"}
    (lab,) = (tmp_path / "runs").glob("lab-*/summary.json")
    assert "val/confidence" in lab.read_text()

"""The promises of docs/stability.md: what is named there exists, and what stays is still there.

The lists below are those of version 0.2.0. They grow, and nothing is taken out before its release of warnings is over.
"""

import re
from pathlib import Path

import yaml

import paribus
from paribus.cli.tree import ROOT as COMMANDS
from paribus.core import exit_codes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stability.md").read_text()
NAMES = [
    "AdamP",
    "CutMix",
    "Cutout",
    "Mixup",
    "Run",
    "SGDP",
    "cutmix",
    "cutout",
    "load",
    "load_timm_weights",
    "mixup",
    "pit",
    "register_with_timm",
    "rexnet",
    "runs",
    "study",
    "to_timm_state_dict",
    "train",
]
LEAVES = [
    "bench",
    "check",
    "clean",
    "compare",
    "completion",
    "data",
    "doctor",
    "eval",
    "export",
    "judge",
    "list",
    "new",
    "plot",
    "predict",
    "results",
    "study",
    "train",
    "verify",
    "wandb",
]
OF_STUDY = ["import", "measure", "noise", "plan", "report", "run", "status"]
CODES = {"OK": 0, "FAILED": 1, "BAD_CONFIG": 2, "STUDY_FAILED": 3, "MISMATCH": 4, "REQUEUE": 75, "INTERRUPTED": 130}


def find_missing_files(page: str) -> list[str]:
    return [name for name in re.findall(r"`(tests/[^`]+)`", page) if not (ROOT / name).is_file()]


def test_every_test_that_holds_a_promise_is_there() -> None:
    assert len(re.findall(r"`tests/", PAGE)) > 20
    assert find_missing_files(PAGE) == []


def test_negative_control_a_test_that_is_gone_is_found() -> None:
    assert find_missing_files("| rows | `tests/golden/test_ids.py`, `tests/golden/test_gone.py` |") == [
        "tests/golden/test_gone.py"
    ]


def test_public_names_are_there() -> None:
    assert set(NAMES) <= set(dir(paribus)) == set(paribus.__all__)
    for name in NAMES:
        assert callable(getattr(paribus, name)), name


def test_commands_are_there() -> None:
    top = {command.name: command for command in COMMANDS.commands}
    assert set(LEAVES) <= set(top)
    assert set(OF_STUDY) <= {command.name for command in top["study"].commands}


def test_exit_codes_mean_what_they_meant() -> None:
    assert {name: value for name, value in vars(exit_codes).items() if name.isupper()} | CODES == CODES


def test_the_version_is_one() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released[0] == (paribus.__version__, str(cited["date-released"]))
    assert cited["version"] == paribus.__version__
    assert f"version {paribus.__version__}." in PAGE

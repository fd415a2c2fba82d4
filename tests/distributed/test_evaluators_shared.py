"""Evaluators under torchrun: 2 and 4 processes find what one finds, to the bit, in metrics and in details."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from helpers import exact_evaluations
from helpers.exact_evaluations import EVALUATORS, evaluate_exactly
from helpers.worlds import in_worlds, torchrun
from paribus.engine.distributed import World

SCRIPT = str(Path(__file__).parent / "evaluate_exactly.py")


def alone() -> str:
    return json.dumps(asdict(evaluate_exactly(World(0, 1, 0, 1))), sort_keys=True)


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_find_what_one_finds(processes: int, tmp_path: Path) -> None:
    code, err = torchrun(processes, SCRIPT, str(tmp_path / "found.json"))
    assert code == 0, err
    assert (tmp_path / "found.json").read_text() == alone()


def test_every_evaluator_finds_something(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, config in EVALUATORS.items():
        monkeypatch.setattr(exact_evaluations, "EVALUATORS", {name: config})
        found = json.loads(alone())
        assert len(found["metrics"]) > 1 or found["details"], name


def test_negative_control_a_share_that_is_lost_is_seen() -> None:
    first_of_two = json.dumps(asdict(evaluate_exactly(World(0, 2, 0, 2))), sort_keys=True)  # and nobody to sum with
    assert first_of_two != alone()

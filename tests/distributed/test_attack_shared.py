"""Training on attacked images in several processes: what is evaluated in between changes no weight."""

from pathlib import Path

import pytest

from helpers.trainings import Result, result_in
from helpers.worlds import furthest, torchrun

SMOKE = (
    "experiment=smoke",
    "technique=[pgd_training]",
    "model.norm=batch",
    "method.steps=2",
    "runtime.threads=1",
    "runtime.device=cpu",
)
STEPS = ("steps=8ba", "tracker=events", "checkpoints.keep=1")


def in_two(where: Path, *overrides: str) -> Result:
    command = ("-m", "paribus.cli", "train", *SMOKE, *STEPS, *overrides, f"paths.runs={where}")
    code, err = torchrun(2, *command)
    assert code == 0, err
    (folder,) = where.iterdir()
    return result_in(folder)


@pytest.mark.slow
def test_an_evaluation_in_between_changes_no_weight(tmp_path: Path) -> None:
    """It makes each rank's BatchNorm statistics those of rank 0, and these are what an attack sees."""
    once = in_two(tmp_path / "once", "every.evaluate=8ba", "every.checkpoint=8ba")
    often = in_two(tmp_path / "often", "every.evaluate=1ba", "every.checkpoint=8ba")
    assert any("running_mean" in name for name in once.weights)
    assert furthest(once, often) == 0.0

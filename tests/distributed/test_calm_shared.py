"""CALM in 1, 2 and 4 processes: the same weights, through plain epochs, in which the attention has no gradient, too."""

from pathlib import Path

import pytest

from helpers.trainings import trained
from helpers.worlds import COMMON, furthest, in_worlds, together

OVERRIDES = ("update.precision=fp64", "steps=20ba", "method.plain_epochs=1")


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_train_the_network_of_one(processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *COMMON, *OVERRIDES, techniques=("calm",))
    several = together(tmp_path / "several", processes, *OVERRIDES, "technique=[calm]")
    assert furthest(one, several) <= 1e-9  # promised: 1e-6
    other = trained(tmp_path / "other", *COMMON, *OVERRIDES, "method.detach=true", techniques=("calm",))
    assert furthest(one, other) > 1e-3

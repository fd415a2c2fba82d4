"""Losses that couple the samples of a global batch: several processes train the nets of one.

FairHSIC and ReBias couple pairs of samples, CGL counts over all of them.
"""

from pathlib import Path

import pytest

from helpers.trainings import Result, result_in, trained
from helpers.worlds import furthest, in_worlds, torchrun

ALL = ("runtime.threads=1", "runtime.device=cpu", "update.precision=fp64", "tracker=events")
CGL = (*ALL, "experiment=smoke_groups", "method=fair_hsic", "method.completion.group_epochs=1", "every.evaluate=20ba")
REBIAS = (*ALL, "experiment=smoke", "every.evaluate=20ba", "method.sigma=null")
REBIAS += ("method.biased.widths=[8,16]", "method.biased.norm=none")
STEPS = "steps=20ba"


def in_several(processes: int, where: Path, *overrides: str) -> Result:
    command = ("-m", "paribus.cli", "train", STEPS, *overrides, f"paths.runs={where}")
    code, err = torchrun(processes, *command)
    assert code == 0, err
    (folder,) = where.iterdir()
    return result_in(folder)


def logged(result: Result, key: str) -> list[float]:
    return [event["values"][key] for event in result.events if key in event["values"]]


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_count_the_groups_of_one(processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", STEPS, *CGL, techniques=("cgl",))
    assert any(name.startswith("groups.") for name in one.weights)
    kept = logged(one, "train/group_kept")
    assert 0 < kept[-1] < 1, "groups of both kinds are there"
    several = in_several(processes, tmp_path / "several", *CGL, "technique=[cgl]")
    assert furthest(one, several) <= 1e-9  # promised: 1e-6
    assert logged(several, "train/group_kept") == kept
    other = trained(tmp_path / "other", STEPS, *CGL, "method.learner.weight=99", techniques=("cgl",))
    assert furthest(one, other) > 1e-6, "negative control: another weight of the penalty is seen"


@pytest.mark.parametrize("processes", in_worlds())
def test_several_processes_have_the_dependence_of_one(processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", STEPS, *REBIAS, techniques=("rebias",))
    several = in_several(processes, tmp_path / "several", *REBIAS, "technique=[rebias]")
    assert any(name.startswith("biased.") for name in one.weights)
    assert furthest(one, several) <= 1e-9  # promised: 1e-6
    other = trained(tmp_path / "other", STEPS, *REBIAS, "method.lambda_f=1.01", techniques=("rebias",))
    assert furthest(one, other) > 1e-6, "negative control: another weight of the dependence is seen"

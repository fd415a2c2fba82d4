"""FSMR and GGDR take statistics and maps from images of other processes: 2 and 4 of these train the networks of one."""

from pathlib import Path

import pytest

from helpers.trainings import Result, result_in, trained
from helpers.worlds import furthest, in_worlds, torchrun

RECIPE = ("experiment=smoke_images", "steps=12ba", "runtime.threads=1", "runtime.device=cpu", "tracker=events")
MORE = ("update.precision=fp64", "every.log=4ba", "every.evaluate=12ba", "every.checkpoint=12ba")
MORE += ("method.penalties.fsmr.weight=5.0", "method.penalties.ggdr.reduction=2")
# statistics of partners, with gradients; and what the controls take from elsewhere
CONTROLS = ("method.penalties.fsmr.partner=by_channel", "method.penalties.fsmr.fakes=true")
CONTROLS += ("method.penalties.ggdr.target=random",)
BOTH = ("fsmr", "ggdr")


def several(folder: Path, processes: int, *overrides: str) -> Result:
    command = ("-m", "paribus.cli", "train", *RECIPE, *MORE, *overrides, "technique=[fsmr,ggdr]")
    code, err = torchrun(processes, *command, f"paths.runs={folder}")
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


@pytest.mark.parametrize(("arm", "processes"), [*in_worlds(()), (CONTROLS, 2)])
def test_several_processes_train_the_nets_of_one(arm: tuple[str, ...], processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *RECIPE, *MORE, *arm, techniques=BOTH)
    other = several(tmp_path / "several", processes, *arm)
    assert any(name.startswith("discriminator.ggdr.") for name in one.weights)
    assert furthest(one, other) <= 1e-9  # promised: 1e-6
    for name in ("train/fsmr", "train/ggdr"):
        ours, theirs = (result.events[-1]["values"][name] for result in (one, other))
        assert theirs == pytest.approx(ours, rel=1e-9)


def test_negative_control_partners_of_the_own_process_alone_are_seen(tmp_path: Path) -> None:
    """Without an exchange each process would find its partners' rows in its own part, which this stands for: other
    images than the shuffle says."""
    one = trained(tmp_path / "one", *RECIPE, *MORE, techniques=BOTH)
    other = trained(tmp_path / "other", *RECIPE, *MORE, CONTROLS[0], techniques=BOTH)
    assert furthest(one, other) > 1e-6

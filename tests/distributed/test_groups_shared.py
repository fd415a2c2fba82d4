"""FairHSIC couples the samples of a batch, and CGL counts over all of them: two processes train the nets of one."""

from pathlib import Path

from helpers.trainings import result_in, trained
from helpers.worlds import furthest, torchrun

RECIPE = ("experiment=smoke_groups", "method=fair_hsic", "steps=20ba", "runtime.threads=1", "runtime.device=cpu")
MORE = ("update.precision=fp64", "method.completion.group_epochs=1", "every.evaluate=20ba", "tracker=events")


def test_two_processes_train_the_nets_of_one(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *RECIPE, *MORE, techniques=("cgl",))
    command = ("-m", "paribus.cli", "train", *RECIPE, *MORE, "technique=[cgl]", f"paths.runs={tmp_path / 'two'}")
    code, err = torchrun(2, *command)
    assert code == 0, err
    (folder,) = (tmp_path / "two").iterdir()
    two = result_in(folder)
    assert any(name.startswith("groups.") for name in one.weights)
    assert furthest(one, two) <= 1e-9  # promised: 1e-6
    kept = [event["values"].get("train/group_kept") for event in two.events]
    assert kept == [event["values"].get("train/group_kept") for event in one.events]
    assert 0 < kept[-1] < 1, "groups of both kinds are there"
    other = trained(tmp_path / "other", *RECIPE, *MORE, "method.learner.weight=99", techniques=("cgl",))
    assert furthest(one, other) > 1e-6, "negative control: another weight of the penalty is seen"

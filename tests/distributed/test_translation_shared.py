"""Translation between domains: 2 and 4 processes train the networks of one, with the targets of the whole batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.trainings import Result, result_in, trained
from helpers.worlds import furthest, in_worlds, torchrun
from paribus.methods.translation import TranslationTraining

RECIPE = ("experiment=smoke_translation", "steps=8ba", "runtime.threads=1", "runtime.device=cpu")
MORE = ("update.precision=fp64", "every.log=4ba", "every.evaluate=8ba", "tracker=events", "ema.decay=0.9")


def several(folder: Path, processes: int, *overrides: str) -> Result:
    code, err = torchrun(processes, "-m", "paribus.cli", "train", *RECIPE, *MORE, *overrides, f"paths.runs={folder}")
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


@pytest.mark.parametrize(("techniques", "processes"), [*in_worlds(("stargan",)), ((), 2)])
def test_several_processes_train_the_nets_of_one(techniques: tuple[str, ...], processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *RECIPE, *MORE, techniques=techniques)
    other = several(tmp_path / "several", processes, *(f"technique={name}" for name in techniques))
    assert any(name.startswith("discriminator.") for name in one.weights)
    assert furthest(one, other) <= 1e-7  # promised: 1e-6
    ours, theirs = (
        {k: v for k, v in result.events[-1]["values"].items() if k.startswith(("train/", "val/"))}
        for result in (one, other)
    )
    assert {"train/loss", "train/reconstruction", "val/reconstruction_error"} <= ours.keys()
    assert theirs == pytest.approx(ours, rel=1e-6)


def test_negative_control_targets_of_a_share_of_the_batch_are_far_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trained(tmp_path / "one", *RECIPE, *MORE, techniques=("stargan",))
    choose = TranslationTraining._choose_domains

    def choose_in_halves(self: Any, batch: Any, at: Any) -> Any:
        """What two processes would do that permute the domains of their own images alone."""
        parts = [replace(part, size=8, positions=torch.arange(8)) for part in batch.split(2)]
        return tuple(torch.cat(both) for both in zip(*(choose(self, part, at) for part in parts), strict=True))

    monkeypatch.setattr(TranslationTraining, "_choose_domains", choose_in_halves)
    assert furthest(one, trained(tmp_path / "halves", *RECIPE, *MORE, techniques=("stargan",))) > 1e-3

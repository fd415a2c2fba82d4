"""Two networks against each other: 2 and 4 processes train the networks of one, and generate the same images."""

from pathlib import Path

import pytest

from helpers.trainings import Result, result_in, trained
from helpers.worlds import furthest, in_worlds, torchrun

RECIPE = ("experiment=smoke_images", "steps=16ba", "runtime.threads=1", "runtime.device=cpu")
MORE = ("update.precision=fp64", "every.log=4ba", "every.evaluate=16ba", "tracker=events", "ema.decay=0.9")
PENALTIES = "paribus.methods.discriminator_penalties"
ARMS: dict[str, tuple[str, ...]] = {
    "conditional": ("model.conditional=true", "method.discriminator.conditional=true", "method.generator_every=2"),
    "wasserstein": (
        "method.penalties.r1=null",
        "method.penalties.gradient_penalty={_target_: " + PENALTIES + ".GradientPenalty, weight: 10.0}",
        "method.loss._target_=paribus.methods.adversarial_losses.Wasserstein",
    ),
}


def several(folder: Path, processes: int, *overrides: str) -> Result:
    code, err = torchrun(processes, "-m", "paribus.cli", "train", *RECIPE, *MORE, *overrides, f"paths.runs={folder}")
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


@pytest.mark.parametrize(("arm", "processes"), [*in_worlds("conditional"), ("wasserstein", 2)])
def test_several_processes_train_the_nets_of_one(arm: str, processes: int, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *RECIPE, *MORE, *ARMS[arm])
    other = several(tmp_path / "several", processes, *ARMS[arm])
    assert any(name.startswith("discriminator.") for name in one.weights)
    assert furthest(one, other) <= 1e-9  # promised: 1e-6
    ours, theirs = (
        {k: v for k, v in result.events[-1]["values"].items() if k.startswith("train/")} for result in (one, other)
    )
    assert {"train/loss", "train/loss_generator", "train/scores_real"} <= ours.keys()
    assert theirs == pytest.approx(ours, rel=1e-9)


def test_negative_control_noise_by_the_place_in_a_process_is_far_away(tmp_path: Path) -> None:
    # what a process would draw that keys its noise by 0, 1, 2, … of its own share: the first half of it twice
    one = trained(tmp_path / "one", *RECIPE, *MORE)
    half = trained(tmp_path / "half", *RECIPE, *MORE, "seed=1")
    assert furthest(one, half) > 1e-3

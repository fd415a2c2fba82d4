"""Matching images with captions is over the pairs of a global batch: 2 and 4 processes train the nets of one."""

from pathlib import Path

import pytest

from helpers.trainings import Result, result_in, trained, workbench
from helpers.worlds import furthest, in_worlds, torchrun
from paribus.core.progress import Progress
from paribus.recipe.smoke import build_small

RECIPE = ("experiment=smoke_captions", "steps=12ba", "runtime.threads=1", "runtime.device=cpu")
MORE = ("update.precision=fp64", "every.log=4ba", "every.evaluate=12ba", "tracker=events", "data.val_n=61")
UNIFORM = ("objective.uniformity=2", "objective.kl_weight=0.1")
ARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pcme": (UNIFORM, ("pcme",)),
    "contrastive": (("objective=contrastive", "model.learns=temperature"), ()),
}


def several(folder: Path, processes: int, overrides: tuple[str, ...], techniques: tuple[str, ...]) -> Result:
    chosen = (f"technique=[{','.join(techniques)}]",) if techniques else ()
    more = (*RECIPE, *MORE, *overrides, *chosen, f"paths.runs={folder}")
    code, err = torchrun(processes, "-m", "paribus.cli", "train", *more)
    assert code == 0, err
    (run,) = folder.iterdir()
    return result_in(run)


def metrics_of(result: Result) -> dict[str, float]:
    return {k: v for k, v in result.events[-1]["values"].items() if k.startswith(("val/", "train/"))}


@pytest.mark.parametrize(("arm", "processes"), [*in_worlds("pcme"), ("contrastive", 2)])
def test_several_processes_train_the_net_of_one(arm: str, processes: int, tmp_path: Path) -> None:
    overrides, techniques = ARMS[arm]
    one = trained(tmp_path / "one", *RECIPE, *MORE, *overrides, techniques=techniques)
    other = several(tmp_path / "several", processes, overrides, techniques)
    assert furthest(one, other) <= 1e-9  # promised: 1e-6
    expected = metrics_of(one)
    assert ("val/sigma_ambiguity" in expected) == (arm == "pcme")
    assert {"val/r_precision", "train/loss"} <= expected.keys()
    assert metrics_of(other) == pytest.approx(expected, rel=1e-9)


def test_negative_control_ranks_that_see_their_own_pairs_alone_have_another_loss() -> None:
    recipe = build_small((*RECIPE, *MORE, *ARMS["pcme"][0]), ("pcme",))
    data, method, _ = workbench(recipe)
    batch, at = data.loader(32, 0).batch(0), Progress(0, 12, 0)
    (part,) = method.parts().values()  # type: ignore[attr-defined]
    whole, *halves = (float(recipe.objective(part.network, some, at)[0].detach()) for some in (batch, *batch.split(2)))
    assert abs(sum(halves) / 2 - whole) > 0.1

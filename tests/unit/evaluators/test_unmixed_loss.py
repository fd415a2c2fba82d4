"""The loss on unmixed training images: what it is of, and that it changes nothing else."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from helpers.evaluations import plain_context
from helpers.trainings import recipe_of, timeless, trained, workbench
from paribus.core.evaluation import Findings, make_context
from paribus.core.progress import Progress
from paribus.core.protocols import DeviceContext
from paribus.data.loaders.subset import choose_train_sample
from paribus.engine.evaluate import evaluate
from paribus.evaluators.unmixed_loss import UnmixedLoss

SHORT = ("experiment=smoke", "steps=20ba", "every.evaluate=20ba", "every.log=10ba")


def test_the_sample_is_spread_over_the_training_set() -> None:
    assert choose_train_sample(7).tolist() == list(range(7))
    chosen = choose_train_sample(2500)
    assert len(chosen) == 1000 == len(set(chosen.tolist()))
    assert [chosen[0], chosen[-1], chosen.diff().max()] == [0, 2497, 3]


@pytest.mark.parametrize("technique", ["cutmix", "mixup"])
def test_it_is_the_loss_of_training_images_as_they_are(technique: str) -> None:
    recipe = recipe_of(*SHORT, techniques=(technique,))
    data, method, _ = workbench(recipe)
    loader = data.loader(recipe.batch_size, 0)
    for step in range(5):
        method.train_step(loader.batch(step), Progress(step, 20, 0))
    context = make_context(data, DeviceContext(torch.device("cpu")))
    found = evaluate(method, {"unmixed": UnmixedLoss(batch_size=50)}, data.splits, context).metrics
    losses = [
        F.cross_entropy(method.predict(batch.inputs), batch.targets, reduction="none")  # type: ignore[attr-defined]
        for batch in data.splits["train_sample"](256)
    ]
    assert found == {"train/unmixed_loss": pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)}
    assert len(torch.cat(losses)) == data.sizes["train"] == 256


def test_it_changes_no_result_and_no_id(tmp_path: Path) -> None:
    with_it, without = trained(tmp_path / "a", *SHORT), trained(tmp_path / "b", *SHORT, "evaluators.unmixed=null")
    values = with_it.events[-1]["values"]
    assert values.keys() - without.events[-1]["values"].keys() == {"train/unmixed_loss"}
    assert with_it.receipt == without.receipt
    stripped = [(s, {k: v for k, v in vs.items() if "unmixed" not in k}) for s, vs in timeless(with_it.events)]
    assert stripped == timeless(without.events)
    assert recipe_of(*SHORT).id == recipe_of(*SHORT, "evaluators.unmixed=null").id


def test_a_run_that_is_done_says_what_it_was_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, *SHORT, "evaluators.unmixed=null").folder
    capsys.readouterr()
    trained(tmp_path, *SHORT)
    assert f"without the evaluators unmixed: paribus eval {folder} evaluators=[unmixed]" in capsys.readouterr().out


def test_nothing_is_said_where_there_is_nothing_to_measure() -> None:
    recipe = recipe_of(*SHORT)
    data, method, _ = workbench(recipe)
    found = evaluate(method, {"unmixed": UnmixedLoss()}, {"val": data.splits["val"]}, plain_context(10))
    assert found == Findings({}, {})

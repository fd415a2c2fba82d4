"""The average of the weights: its decay in the first steps, BatchNorm statistics that fit it, what is said of it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.trainings import composed, recipe_of, trained
from paribus.methods.ema import Ema, decay_at
from paribus.recipe.arms import build_plan
from paribus.recipe.recipe import build_recipe, rebuild_recipe
from paribus.study.load import load_study

OF_BEFORE = ("ema.warmup=false", "ema.buffers=latest")  # what an average was up to 0.1


def batchnorm_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("buffers", ["averaged", "latest"])
def test_the_average_follows_weights_and_statistics(buffers: str) -> None:
    model = batchnorm_net()
    average = Ema(decay=0.9, warmup=False, buffers=buffers)(model)  # type: ignore[arg-type]
    assert average is not None
    before = average.module[0].weight.clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)  # type: ignore[operator]
        model[1].running_mean.fill_(3.0)  # type: ignore[union-attr,operator]
        model[1].num_batches_tracked.fill_(7)  # type: ignore[union-attr,operator]
    average.update(model, 0)
    assert torch.allclose(average.module[0].weight, before + 0.1)
    expected = 0.3 if buffers == "averaged" else 3.0
    assert torch.allclose(average.module[1].running_mean, torch.full((2,), expected))  # type: ignore[arg-type]
    assert average.module[1].num_batches_tracked == 7
    assert Ema()(model) is None


@pytest.mark.parametrize("buffers", ["averaged", "latest"])
def test_the_average_has_the_bits_of_one_tensor_after_the_other(buffers: str) -> None:
    draws = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(5), nn.Linear(7, 3))
    average = Ema(decay=0.999, buffers=buffers)(model)  # type: ignore[arg-type]
    assert average is not None
    alone = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(20):
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=draws) * 10)
        average.update(model, step)
        if step == 10:  # lists of tensors that were kept from before would now be other tensors, or stay behind
            average.load_state_dict({name: tensor.clone() for name, tensor in average.state_dict().items()})
        for name, latest in model.state_dict().items():
            is_averaged = latest.is_floating_point() and (buffers == "averaged" or "running" not in name)
            if is_averaged:
                alone[name].lerp_(latest, 1 - decay_at(step, 0.999, warmup=True))
            else:
                alone[name].copy_(latest)
    assert all(torch.equal(tensor, alone[name]) for name, tensor in average.state_dict().items())


def test_a_network_without_weights_or_without_buffers_has_an_average() -> None:
    for model in (nn.ReLU(), nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)):
        average = Ema(decay=0.9)(model)
        assert average is not None
        average.update(model, 0)


def test_a_warm_up_forgets_the_initial_weights() -> None:
    assert decay_at(0, 0.999, warmup=True) == 0.1
    assert decay_at(10**6, 0.999, warmup=True) == decay_at(0, 0.999, warmup=False) == 0.999
    model, weights = nn.Linear(1, 1, bias=False), []
    average = Ema(decay=0.999)(model)
    assert average is not None
    for step in range(100):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update(model, step)
        weights.append(average.module.weight.item())
    assert weights[-1] > 85  # about the last tenth; without warm-up it would be 4.8
    assert Ema(decay=0.999).share_of_initial_weights(100) < 1e-6
    assert Ema(decay=0.999, warmup=False).share_of_initial_weights(100) == pytest.approx(0.999**100)
    assert Ema().share_of_initial_weights(100) == 0


def averaged_run(folder: Path, *overrides: str) -> dict[str, float]:
    settings = ("experiment=quickstart", "model=convnet_small", "model.norm=batch", "steps=6ep", "every.evaluate=6ep")
    return trained(
        folder, *settings, "optimizer=sgd", "optimizer.lr=0.1", "schedule=constant", "ema.decay=0.98", *overrides
    ).events[-1]["values"]


def test_an_average_is_evaluated_with_statistics_that_fit_it(tmp_path: Path) -> None:
    now, before = averaged_run(tmp_path / "now"), averaged_run(tmp_path / "before", *OF_BEFORE)
    assert now["val/acc1_without_ema"] == before["val/acc1_without_ema"]  # the network itself is the same
    assert now["val/acc1"] > now["val/acc1_without_ema"] - 0.02
    assert before["val/acc1"] < now["val/acc1"] - 0.1  # the fault that this mends


def test_a_warning_says_when_initial_weights_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("experiment=smoke", "steps=20ba", "ema.decay=0.999")
    trained(tmp_path / "a", *short)
    said = capsys.readouterr().err
    assert "warning" not in said
    assert "note: ema.decay=0.999 is not reached in 20 steps: its warm-up ends at 0.6897" in said
    trained(tmp_path / "b", *short, "ema.warmup=false")
    assert "ema.decay=0.999 over 20 steps: 98% of the average will be the initial weights" in capsys.readouterr().err


def test_ids_of_averages_on_record_stay_and_new_ones_differ() -> None:
    short = ("experiment=smoke", "ema.decay=0.9")
    recorded = "9b8e742de3c1"  # of this command in 0.1.0
    today = recipe_of(*short)
    assert recipe_of(*short, *OF_BEFORE).id == recorded
    assert len({recorded, today.id, recipe_of(*short, OF_BEFORE[0]).id, recipe_of(*short, OF_BEFORE[1]).id}) == 4
    config = {**today.config, "ema": {"_target_": "paribus.methods.ema.Ema", "decay": 0.9}}  # as 0.1.0 wrote it
    again = rebuild_recipe(config)
    assert again.id == recorded
    assert again.config["ema"] == {**config["ema"], "warmup": False, "buffers": "latest"}


@pytest.mark.parametrize("settings", [OF_BEFORE[:1], OF_BEFORE[1:], OF_BEFORE, ()])
def test_settings_of_an_average_that_is_off_are_in_no_id(settings: tuple[str, ...]) -> None:
    assert recipe_of("experiment=smoke", *settings).id == "45ef5a568f27"


def test_a_study_may_be_decided_by_the_network_itself(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "question: q\nrecipe: [experiment=smoke]\narms: {a: [ema.decay=0.9], b: [ema.decay=0.99]}\nseeds: 2\n"
        "metric: val/acc1_without_ema\nsmallest_effect: 0.01\nsettings: paper\n"
    )
    assert len(build_plan(load_study(tmp_path)).cells) == 4


def test_another_class_for_the_average_is_left_as_it_is() -> None:
    config = build_recipe(composed("experiment=smoke"), []).config
    assert rebuild_recipe({**config, "ema": dict(config["ema"])}).config == config

"""One battery over every overlay in configs/technique/. A new technique is tested by being there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.trainings import OVERLAYS, composed, recipe_of, smoke_recipe_for, stopping_after, trained, workbench
from paribus.core.batch import Batch
from paribus.core.build import to_config
from paribus.core.progress import Progress
from paribus.methods.supervised import SupervisedTraining
from paribus.recipe.configs import list_options
from paribus.recipe.overlays import overlay_rule

every_overlay = pytest.mark.parametrize("techniques", OVERLAYS, ids=lambda t: "+".join(t) or "baseline")


@every_overlay
def test_what_is_built_is_what_the_config_names(techniques: tuple[str, ...]) -> None:
    recipe = recipe_of(*smoke_recipe_for(techniques), techniques=techniques)
    assert recipe.techniques == techniques

    def check(node: Any, thing: Any) -> None:
        if isinstance(node, dict):
            if "_target_" in node:
                assert f"{type(thing).__module__}.{type(thing).__qualname__}" == node["_target_"]
            for key, value in node.items():
                if key != "_target_":
                    check(value, thing[key] if isinstance(thing, dict) else getattr(thing, key))

    check({k: v for k, v in to_config(recipe).items() if k != "_target_"}, recipe)


@every_overlay
def test_the_loss_falls_and_the_same_seed_gives_the_same_bits(techniques: tuple[str, ...], tmp_path: Path) -> None:
    overrides = smoke_recipe_for(techniques)
    first = trained(tmp_path / "a", *overrides, techniques=techniques)
    losses = [event["values"]["train/loss"] for event in first.events]
    assert losses[-1] < 0.9 * losses[0]
    again = trained(tmp_path / "b", *overrides, techniques=techniques)
    assert first.same_as(again)
    other_seed = trained(tmp_path / "c", *overrides, "seed=1", techniques=techniques)
    assert not first.same_as(other_seed)


@every_overlay
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bits(
    techniques: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*smoke_recipe_for(techniques), "steps=40ba", "ema.decay=0.9"]
    whole = trained(tmp_path / "whole", *overrides, techniques=techniques)
    with monkeypatch.context() as patched:
        stopping_after(patched, 17)  # in the middle of a log window
        stopped = trained(tmp_path / "parts", *overrides, techniques=techniques)
        assert stopped.code == 75
        assert (stopped.folder / "PREEMPTED").exists()
    resumed = trained(tmp_path / "parts", *overrides, techniques=techniques)
    assert resumed.code == 0
    assert whole.same_as(resumed)
    assert sorted(p.name for p in resumed.folder.glob("[A-Z]*")) == ["DONE"]


@every_overlay
def test_trackers_cannot_change_a_result(techniques: tuple[str, ...], tmp_path: Path, capsys: Any) -> None:
    overrides = [*smoke_recipe_for(techniques), "steps=12ba"]
    silent = trained(tmp_path / "a", *overrides, techniques=techniques)
    told = trained(tmp_path / "b", *overrides, "tracker=[events,console]", "every.log=1ba", techniques=techniques)
    assert "step 12/12" in capsys.readouterr().out
    assert all(torch.equal(w, told.weights[name]) for name, w in silent.weights.items())


@every_overlay
def test_every_trainable_tensor_is_in_one_optimizer_group_and_learns(techniques: tuple[str, ...]) -> None:
    recipe = recipe_of(*smoke_recipe_for(techniques), techniques=techniques)
    data, method, _ = workbench(recipe)
    assert isinstance(method, SupervisedTraining)
    grouped = [p for group in method.optimizer.param_groups for p in group["params"]]
    trainable = [p for p in method.model.parameters() if p.requires_grad]
    assert len(grouped) == len({id(p) for p in grouped}) == len(trainable)
    assert {id(p) for p in grouped} == {id(p) for p in trainable}
    touched = {name: torch.zeros((), dtype=torch.bool) for name, _ in method.model.named_parameters()}
    loader = data.loader(recipe.batch_size, recipe.seed)
    for step in range(3):  # more than one: some layers start at zero and pass nothing back at first
        method.train_step(loader.batch(step), Progress(step, 60, 0, loader.steps_per_epoch))
        for name, parameter in method.model.named_parameters():
            assert parameter.grad is not None, name
            touched[name] |= (parameter.grad != 0).any()
    assert [name for name, yes in touched.items() if not yes] == []


@every_overlay
def test_transforms_leave_their_input_alone_and_keep_target_mass(techniques: tuple[str, ...]) -> None:
    recipe = recipe_of(*smoke_recipe_for(techniques), techniques=techniques)
    data, method, _ = workbench(recipe)
    loader = data.loader(recipe.batch_size, recipe.seed)
    for step in range(5):
        at = Progress(step, 60, 0, loader.steps_per_epoch)
        batch = loader.batch(step)
        before = batch.inputs.clone(), batch.targets.clone()
        after = batch
        for transform in recipe.transforms.values():
            assert transform is not None
            after = transform(after, at)
        assert torch.equal(batch.inputs, before[0])
        assert torch.equal(batch.targets, before[1])
        if after.targets.ndim == 2:
            assert torch.allclose(after.targets.sum(1), torch.ones(len(after)))
        method.train_step(batch, at)
        assert torch.equal(batch.inputs, before[0])


@every_overlay
def test_soft_targets_are_taken(techniques: tuple[str, ...]) -> None:
    recipe = recipe_of(*smoke_recipe_for(techniques), techniques=techniques)
    data, method, _ = workbench(recipe)
    loader = data.loader(recipe.batch_size, recipe.seed)
    batch = loader.batch(0)
    soft = torch.nn.functional.one_hot(batch.targets, batch.classes).to(batch.inputs.dtype) * 0.9
    soft = soft + 0.1 / batch.classes
    soft_batch = Batch(batch.inputs, soft, batch.ids, batch.positions, batch.size, batch.classes)
    loss = method.train_step(soft_batch, Progress(0, 60, 0))["train/loss"]
    assert torch.isfinite(torch.as_tensor(loss))


@every_overlay
def test_accumulation_changes_memory_and_nothing_else(techniques: tuple[str, ...], tmp_path: Path) -> None:
    overrides = [*smoke_recipe_for(techniques), "steps=8ba", "update.precision=fp64"]
    whole = trained(tmp_path / "a", *overrides, techniques=techniques)
    parts = trained(tmp_path / "b", *overrides, "update.accumulate=4", techniques=techniques)
    if not any("running_mean" in name for name in whole.weights):  # BatchNorm sees the parts
        for name, weight in whole.weights.items():
            assert torch.allclose(weight, parts.weights[name], rtol=1e-9, atol=1e-11), name


@every_overlay
def test_bf16_trains(techniques: tuple[str, ...], tmp_path: Path) -> None:
    result = trained(
        tmp_path, *smoke_recipe_for(techniques), "steps=12ba", "update.precision=bf16", techniques=techniques
    )
    assert result.code == 0
    assert all(torch.isfinite(w).all() for w in result.weights.values())


@every_overlay
def test_arms_of_one_seed_are_paired(techniques: tuple[str, ...]) -> None:
    overrides = smoke_recipe_for(techniques)
    base, arm = recipe_of(*overrides), recipe_of(*overrides, techniques=techniques)
    (base_data, base_method, _), (arm_data, arm_method, _) = workbench(base), workbench(arm)
    loaders = [d.loader(base.batch_size, 0) for d in (base_data, arm_data)]
    for step in (0, 7, 33):
        a, b = (loader.batch(step) for loader in loaders)
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.inputs, b.inputs)
    if base.model == arm.model:
        assert isinstance(base_method, SupervisedTraining)
        assert isinstance(arm_method, SupervisedTraining)
        pairs = zip(base_method.model.parameters(), arm_method.model.parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)


NEUTRAL = [
    (name, settings)
    for name in list_options("technique")
    if name != "baseline"
    for settings in [overlay_rule(name, composed(f"technique={name}")["overlays"].get(name)).check.neutral]
    if settings
]


@pytest.mark.parametrize(("name", "settings"), NEUTRAL)
def test_a_technique_set_to_nothing_is_the_baseline_bit_for_bit(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    overrides = [*smoke_recipe_for((name,)), "steps=20ba"]
    base = trained(tmp_path / "a", *overrides)
    off = trained(tmp_path / "b", *overrides, *(f"{k}={v}" for k, v in settings.items()), techniques=(name,))
    on = trained(tmp_path / "c", *overrides, techniques=(name,))
    assert base.same_as(off)
    assert not base.same_as(on)

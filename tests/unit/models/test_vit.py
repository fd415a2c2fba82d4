"""The ViT and its slots: what it refuses, what it draws, how it is composed, and that it learns."""

import pytest
import torch
from torch import nn

import paribus
from helpers.trainings import recipe_of, workbench
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.engine.distributed import World
from paribus.engine.runtime import seed_global_generators
from paribus.models.drop_path import DropPath
from paribus.models.groups import decay_groups
from paribus.models.macs import count_macs
from paribus.models.vit import NoPooling, Patches, ViT
from paribus.models.vit_matching import BlockSize, build_on_meta, match_size
from paribus.models.vit_pooling import PlainPooling
from paribus.recipe.build import count_steps
from paribus.recipe.recipe import rebuild_recipe
from paribus.techniques.pit import OverlappingStem, Pooling

CPU = torch.device("cpu")
ARMS = ["baseline", "pit", "pit_stem", "pit_pooling"]
SLOTS = {
    "baseline": (Patches(), NoPooling()),
    "pit": (OverlappingStem(), Pooling()),
    "pit_stem": (OverlappingStem(), NoPooling()),
    "pit_pooling": (Patches(), Pooling()),
}


def tiny(**args: object) -> ViT:
    return ViT(**{"patch": 4, "depths": (1, 2, 1), "heads": 2, "head_dim": 8, **args})  # type: ignore[arg-type]


def overlay(arm: str) -> tuple[str, ...]:
    return () if arm == "baseline" else (arm,)


def at(step: int) -> Progress:
    return Progress(step, 100, 0, 10)


@pytest.mark.parametrize("arm", ARMS)
def test_position_map_and_tokens_are_parameters_that_do_not_decay(arm):
    stem, pooling = SLOTS[arm]
    model = build_on_meta(
        lambda: tiny(stem=stem, pooling=pooling).build_network(Spec(10, 3, 16, 16), BlockSize(2, 8, 32))
    )
    names = {name for name, _ in model.named_parameters()}
    assert model.no_weight_decay() <= names
    assert len(model.no_weight_decay()) == 2
    decaying, rest = decay_groups(model, "matrices")
    assert model.no_weight_decay() <= set(rest.names)
    assert all("norm" in n or n.endswith("bias") for n in set(rest.names) - model.no_weight_decay())
    assert all(n.endswith("weight") for n in decaying.names)


@pytest.mark.parametrize("arm", ARMS)
def test_every_parameter_gets_a_gradient_at_any_shape_of_image(arm):
    stem, pooling = SLOTS[arm]
    torch.manual_seed(0)
    model = tiny(stem=stem, pooling=pooling, drop_rate=0.1, drop_path=0.1)(Spec(5, 2, 20, 12)).train()
    logits = model(torch.randn(8, 2, 20, 12))
    assert logits.shape == (8, 5)
    nn.functional.cross_entropy(logits, torch.arange(8) % 5).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_stages_without_pooling_are_one_stack():
    models = []
    for depths in ((4,), (1, 2, 1)):
        torch.manual_seed(0)
        models.append(tiny(depths=depths)(Spec(10, 3, 16, 16)).eval())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(models[0](x), models[1](x))


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2)
    out = DropPath(0.25)(x)
    kept = out[:, 0, 0] > 0
    assert torch.equal(out, kept[:, None, None] * x / 0.75)
    assert abs(float(kept.float().mean()) - 0.75) < 0.03
    assert torch.equal(DropPath(0.25).eval()(x), x)
    assert torch.equal(DropPath(0.0)(x), x)


@pytest.mark.parametrize("args", [{"drop_rate": 0.3}, {"drop_path": 0.5}])
def test_what_modules_draw_is_a_function_of_the_step(args):
    model = tiny(**args)(Spec(10, 3, 16, 16))
    x = torch.randn(4, 3, 16, 16)

    def output(step: int) -> torch.Tensor:
        seed_global_generators(at(step), World(), CPU)
        with torch.no_grad():
            return model(x)

    model.train()
    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))
    model.eval()
    assert torch.equal(output(1), output(2))


def test_the_first_block_is_never_dropped():
    model = tiny(drop_path=0.9)(Spec(10, 3, 16, 16))
    rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.225, 0.45, 0.675])


def test_bf16_autocast_and_double_precision():
    model = tiny(stem=OverlappingStem(), pooling=Pooling())(Spec(10, 3, 16, 16))
    x = torch.randn(2, 3, 16, 16)
    full = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, atol=0.1, rtol=0.1)
    torch.testing.assert_close(model.double()(x.double()).float(), full, atol=1e-5, rtol=1e-5)


def test_the_layout_of_images_in_memory_changes_nothing():
    model = tiny(stem=OverlappingStem(), pooling=Pooling())(Spec(10, 3, 16, 16)).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(x)
        found = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_images_it_was_not_built_for_are_refused():
    with pytest.raises(ValueError, match=r"built for images of \(16, 16\) pixels, got \(32, 16\)"):
        tiny()(Spec(10, 3, 16, 16))(torch.zeros(1, 3, 32, 16))
    with pytest.raises(ConfigError, match="3×16 pixels are smaller than a patch of 4"):
        tiny()(Spec(10, 3, 3, 16))


def test_a_patch_the_stem_cannot_halve_is_refused_before_any_data():
    with pytest.raises(ConfigError, match=r"^model: patch is 5; PiT's stem moves by half a patch"):
        recipe_of("experiment=smoke_vit", "model.patch=5", techniques=("pit",))


def test_a_cost_that_cannot_be_matched_is_refused():
    spec = Spec(10, 3, 16, 16)
    plain = tiny(head_dim=2, heads=1, mlp_ratio=0.5)
    reference = build_on_meta(lambda: plain.build_network(spec, BlockSize(1, 2, 1)))
    with pytest.raises(ConfigError, match="no first stage comes within 1%"):
        match_size(
            lambda size: tiny(stem=OverlappingStem()).build_network(spec, size), reference, BlockSize(1, 2, 1), spec
        )


# -- controls of the pooling


def by_hand(maps, kind):
    """Window by window, over the cells that are there."""
    n, c, h, w = maps.shape
    found = torch.empty(n, c, (h + 1) // 2, (w + 1) // 2)
    for i in range(found.shape[2]):
        for j in range(found.shape[3]):
            window = maps[:, :, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2].flatten(2)
            one = {"mean": window.mean(2), "max": window.amax(2), "every_second": maps[:, :, 2 * i, 2 * j]}[kind]
            found[:, :, i, j] = one
    return found


@pytest.mark.parametrize("side", [4, 5])
@pytest.mark.parametrize("kind", ["mean", "max", "every_second"])
def test_plain_poolings_are_what_they_say_and_have_no_weights(kind, side):
    layer = PlainPooling(kind=kind).layer(6)
    maps, tokens = torch.randn(2, 6, side, side), torch.randn(2, 1, 6)
    found, wide = layer(maps, tokens)
    torch.testing.assert_close(found[:, ::2], by_hand(maps, kind))
    assert torch.equal(found[:, ::2], found[:, 1::2])
    assert torch.equal(wide, tokens.repeat_interleave(2, 2))
    assert not list(layer.parameters())
    others = {"mean", "max", "every_second"} - {kind}
    assert all((found[:, ::2] - by_hand(maps, other)).abs().max() > 0.1 for other in others)  # negative control


def test_a_stride_of_1_is_the_same_layer_on_a_grid_that_stays():
    pooled, kept = Pooling().layer(6), Pooling(stride=1).layer(6)
    kept.load_state_dict(pooled.state_dict())
    maps, tokens = torch.randn(2, 6, 5, 4), torch.randn(2, 1, 6)
    (small, a), (large, b) = pooled(maps, tokens), kept(maps, tokens)
    assert large.shape == (2, 12, 5, 4)
    torch.testing.assert_close(large[:, :, ::2, ::2], small)  # pooling is it at every second cell
    assert torch.equal(a, b)


@pytest.mark.parametrize("match", ["macs", "parameters"])
@pytest.mark.parametrize(
    "slots",
    [
        {"stem": OverlappingStem(), "pooling": Pooling()},
        {"pooling": Pooling(stride=1)},
        {"stem": OverlappingStem(), "pooling": PlainPooling(kind="max")},
    ],
)
def test_either_cost_can_be_matched_and_the_other_is_not(match, slots):
    spec = Spec(10, 3, 32, 32)
    sizes = {"patch": 8, "depths": (1, 2, 1), "heads": 3, "head_dim": 32}
    plain, model = ViT(**sizes)(spec), ViT(**sizes, **slots, match=match)(spec)
    costs = {
        "macs": [count_macs(net, spec) for net in (plain, model)],
        "parameters": [sum(p.numel() for p in net.parameters()) for net in (plain, model)],
    }
    apart = {key: abs(ours / theirs - 1) for key, (theirs, ours) in costs.items()}
    assert apart.pop(match) <= 0.01
    assert min(apart.values()) > 0.02
    assert f"at matched {'MACs' if match == 'macs' else 'parameters'} (" in model.notes[0]


def test_a_plain_network_is_the_same_whatever_would_be_matched():
    spec = Spec(10, 3, 16, 16)
    torch.manual_seed(0)
    one = tiny()(spec).state_dict()
    torch.manual_seed(0)
    other = tiny(match="parameters")(spec).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_attention_maps_know_the_pitch_of_a_grid_that_stays():
    model = tiny(pooling=Pooling(stride=1))(Spec(10, 3, 16, 16))
    assert {found.pitch for found in model.attention_maps(torch.randn(1, 3, 16, 16))} == {(4, 4)}


# -- composed with the shipped configs


def test_settings_that_came_later_leave_the_ids_of_recorded_runs():
    for arm in ARMS:
        recipe = recipe_of("experiment=smoke_vit", techniques=overlay(arm))
        assert recipe_of("experiment=smoke_vit", "model.match=macs", techniques=overlay(arm)).id == recipe.id
        if "pooling" in arm or arm == "pit":
            strided = recipe_of("experiment=smoke_vit", "+model.pooling.stride=1", techniques=overlay(arm))
            assert strided.id != recipe.id
    assert recipe_of("experiment=smoke_vit", "model.match=parameters").id != recipe_of("experiment=smoke_vit").id


def test_overlays_fill_the_slots_and_nothing_else():
    plain = recipe_of("experiment=smoke_vit").config
    for arm, (stem, pooling) in SLOTS.items():
        recipe = recipe_of("experiment=smoke_vit", techniques=overlay(arm))
        assert (recipe.model.stem, recipe.model.pooling) == (stem, pooling)
        changed = {key for key in plain if recipe.config[key] != plain[key]}
        assert changed == (set() if arm == "baseline" else {"model", "techniques"})
        model = {**recipe.config["model"], "stem": 0, "pooling": 0}
        assert model == {**plain["model"], "stem": 0, "pooling": 0}
        assert rebuild_recipe(recipe.config).id == recipe.id


@pytest.mark.parametrize(
    ("overrides", "techniques"),
    [
        (["experiment=quickstart"], ("pit",)),
        (["experiment=cifar10_small_vit", "model=cifar_resnet"], ("pit",)),
        (["experiment=smoke_vit", "model=pit"], ("pit_stem",)),
        (["experiment=smoke_vit", "model=convnet"], ("pit_pooling",)),
    ],
)
def test_overlays_refuse_what_they_do_not_fit_and_name_what_they_fit(overrides, techniques):
    with pytest.raises(ConfigError, match=r"does not fit.*model=vit_small_images, model=vit_s, model=vit_tiny"):
        recipe_of(*overrides, techniques=techniques)


@pytest.mark.parametrize("techniques", [("pit", "pit_pooling"), ("pit", "pit_stem"), ("pit_stem", "pit_pooling")])
def test_of_overlays_that_want_the_same_place_one_is_to_be_named(techniques):
    """Each replaces a part of the same ViT; one of two finds what the other has put there."""
    with pytest.raises(ConfigError, match=r"does not go with.*name one of the two") as found:
        recipe_of("experiment=smoke_vit", techniques=techniques)
    assert all(
        f"technique={name} " in str(found.value) or f"technique={name}," in str(found.value) for name in techniques
    )


def test_pit_goes_together_with_cutmix():
    recipe = recipe_of("experiment=smoke_vit", techniques=("pit", "cutmix"))
    assert recipe.techniques == ("pit", "cutmix")
    assert isinstance(recipe.model.pooling, Pooling)
    assert list(recipe.transforms) == ["cutmix"]


@pytest.mark.parametrize("arm", ARMS)
def test_the_loss_of_the_smoke_run_falls(arm):
    recipe = recipe_of("experiment=smoke_vit", techniques=overlay(arm))
    data, method, _ = workbench(recipe)
    loader = data.loader(recipe.batch_size, recipe.seed)
    total, losses = count_steps(recipe, loader.steps_per_epoch), []
    assert total == 60
    for step in range(total):
        now = Progress(step, total, recipe.seed, loader.steps_per_epoch)
        losses.append(float(method.train_step(loader.batch(step), now)["train/loss"]))
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


def test_the_published_networks_are_a_public_name():
    assert build_on_meta(lambda: paribus.pit("ti", image_size=32, num_classes=3)).classifiers[0].out_features == 3

"""PiT against timm's, which gives the authors' logits bit for bit; and the arms of its comparison at matched cost."""

import math

import pytest
import timm
import torch
from timm.layers import calculate_drop_path_rates, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from helpers.trainings import recipe_of, workbench
from paribus import load_timm_weights
from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.models.drop_path import DropPath, drop_path_rates
from paribus.models.macs import count_macs
from paribus.models.vit import NoPooling, Patches, ViT
from paribus.models.vit_matching import BlockSize, build_on_meta
from paribus.techniques import pit as pit_file
from paribus.techniques.pit import VARIANTS, OverlappingStem, PiT, Pooling, pit

TOLERANCE = 1e-5  # on logits of order 1


@torch.no_grad()
def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """No tensor at a value it is initialised with, and activations of order 1 throughout."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            p.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
        elif name in ("pos_embed", "cls_token"):
            p.copy_(0.5 * noise)
        else:
            p.copy_(noise / math.sqrt(p[0].numel()))
    return model


def timm_pit(variant: str, distilled: bool = False, **args: object) -> nn.Module:
    name = f"pit_{variant}_distilled_224" if distilled else f"pit_{variant}_224"
    return randomised(build_on_meta(lambda: timm.create_model(name, **args)).to_empty(device="cpu")).eval()


def images(height: int = 224, width: int = 224, n: int = 1, channels: int = 3) -> torch.Tensor:
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def difference(model: nn.Module, oracle: nn.Module, x: torch.Tensor) -> float:
    expected = oracle(x)
    assert 0.3 < expected.std() < 5, "the comparison means little unless logits are of order 1"
    return float((model(x) - expected).abs().max())


def copied(oracle: nn.Module, variant: str, **args: object) -> nn.Module:
    model = build_on_meta(lambda: pit(variant, **args)).to_empty(device="cpu").eval()  # type: ignore[arg-type]
    load_timm_weights(model, oracle.state_dict())
    return model


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("variant", ["ti", "xs", "s", "b"])
def test_logits_are_timms(variant, distilled):
    oracle = timm_pit(variant, distilled)
    assert difference(copied(oracle, variant, distilled=distilled), oracle, images()) <= TOLERANCE


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (145, 101)])
def test_logits_are_timms_at_other_sizes_channels_and_classes(size):
    oracle = timm_pit("ti", img_size=size, num_classes=7, in_chans=2)
    model = copied(oracle, "ti", image_size=size, num_classes=7, in_chans=2)
    assert difference(model, oracle, images(*size, n=2, channels=2)) <= TOLERANCE


def without_position_map(model, monkeypatch):
    nn.init.zeros_(model.position_map)


def with_transposed_position_map(model, monkeypatch):
    model.position_map.data = model.position_map.data.transpose(2, 3).contiguous()


def with_other_heads(model, monkeypatch):
    model.stages[1].blocks[3].attn.heads *= 2


def with_tokens_not_pooled_by_their_layer(model, monkeypatch):
    monkeypatch.setattr(pit_file, "pool", lambda m, t, *weights: (POOL(m, t, *weights)[0], t.repeat(1, 1, 2)))


def with_pooling_of_the_wrong_groups(model, monkeypatch):
    # channel i + c of the result instead of 2i and 2i + 1 looks at channel i
    def pool(maps, tokens, *weights):
        maps, tokens = POOL(maps, tokens, *weights)
        return maps.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2), tokens

    monkeypatch.setattr(pit_file, "pool", pool)


def with_tokens_last(model, monkeypatch):
    model.class_tokens.data = model.class_tokens.data.flip(1)


def with_one_classifier_only(model, monkeypatch):
    model.classifiers[1] = model.classifiers[0]


def without_the_last_norm(model, monkeypatch):
    model.norm = nn.Identity()


POOL = pit_file.pool
MUTATIONS = [
    without_position_map,
    with_transposed_position_map,
    with_other_heads,
    with_tokens_not_pooled_by_their_layer,
    with_pooling_of_the_wrong_groups,
    with_tokens_last,
    with_one_classifier_only,
    without_the_last_norm,
]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_negative_control_an_altered_network_is_not_timms(mutation, monkeypatch):
    oracle = timm_pit("ti", distilled=True, img_size=96)
    model = copied(oracle, "ti", image_size=96, distilled=True)
    assert difference(model, oracle, images(96, 96)) <= TOLERANCE
    mutation(model, monkeypatch)
    assert difference(model, oracle, images(96, 96)) > 100 * TOLERANCE


def test_training_logits_and_gradients_of_the_distilled_net_are_timms():
    oracle = timm_pit("ti", distilled=True, img_size=96).train()
    oracle.set_distilled_training(True)
    model = copied(oracle, "ti", image_size=96, distilled=True).train()
    x = images(96, 96, n=2)
    ours, theirs = model(x), oracle(x)
    assert isinstance(ours, tuple)
    assert [logits.shape for logits in ours] == [(2, 1000), (2, 1000)]
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=TOLERANCE, rtol=0)
    assert (ours[0] - ours[1]).abs().max() > 0.1
    for a, b in (ours, theirs):
        (a.log_softmax(1)[:, 0] + 2 * b.log_softmax(1)[:, 1]).sum().backward()
    for mine, expected in (
        (model.position_map, oracle.pos_embed),
        (model.pools[0].conv.weight, oracle.transformers[1].pool.conv.weight),
        (model.pools[1].fc.weight, oracle.transformers[2].pool.fc.weight),
    ):
        assert expected.grad.abs().max() > 0.01
        torch.testing.assert_close(mine.grad, expected.grad, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), (ours[0] + ours[1]) / 2, atol=TOLERANCE, rtol=0)


# -- weights


def in_the_old_layout(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the authors and timm up to 0.4 wrote them: pooling k after stage k."""
    return {
        name.replace("transformers.1.pool", "pools.0").replace("transformers.2.pool", "pools.1"): value
        for name, value in weights.items()
    }


def test_both_layouts_of_weights_give_the_same_network():
    weights = timm_pit("ti", img_size=64).state_dict()
    old = in_the_old_layout(weights)
    assert set(old) != set(weights)
    first, second = (pit("ti", image_size=64) for _ in range(2))
    load_timm_weights(first, weights)
    load_timm_weights(second, old)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_negative_control_pools_counted_one_off_are_refused():
    weights = timm_pit("ti", img_size=64).state_dict()
    shifted = {name.replace("transformers.1.pool", "pools.1"): value for name, value in weights.items()}
    with pytest.raises(ValueError, match="do not fit"):
        load_timm_weights(pit("ti", image_size=64), shifted)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"variant": "xs"}, {}),
        ({"distilled": True}, {}),
        ({}, {"distilled": True}),
        ({"num_classes": 10}, {}),
        ({"in_chans": 1}, {}),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(theirs, ours):
    variant = theirs.pop("variant", "ti")
    weights = timm_pit(variant, img_size=64, **theirs).state_dict()
    model = pit("ti", image_size=64, **ours)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="these weights do not fit"):
        load_timm_weights(model, weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [(224, 288), (96, 96)])
def test_a_position_map_of_another_grid_is_resized_as_timm_does_for_its_vits(size):
    small = timm_pit("ti")
    model = copied(small, "ti", image_size=size)
    grid = list(model.position_map.shape[2:])
    tokens = small.pos_embed.detach().flatten(2).transpose(1, 2)
    expected = resample_abs_pos_embed(tokens, grid, [27, 27], num_prefix_tokens=0).transpose(1, 2).unflatten(2, grid)
    torch.testing.assert_close(model.position_map.detach(), expected, atol=1e-6, rtol=0)

    oracle = timm_pit("ti", img_size=size)
    oracle.load_state_dict({**small.state_dict(), "pos_embed": expected})
    assert difference(model, oracle, images(*size)) <= TOLERANCE
    with torch.no_grad():  # negative control: the same comparison sees a map that is flipped
        model.position_map.copy_(model.position_map.flip(2))
    assert difference(model, oracle, images(*size)) > 100 * TOLERANCE


# -- sizes


@pytest.mark.parametrize(
    ("variant", "parameters", "distilled_parameters", "gmacs"),
    [
        ("ti", 4.847e6, 5.104e6, 0.699),
        ("xs", 10.619e6, 11.004e6, 1.395),
        ("s", 23.462e6, 24.039e6, 2.871),
        ("b", 73.765e6, 74.790e6, 12.40),
    ],
)
def test_parameters_and_macs_are_the_papers(variant, parameters, distilled_parameters, gmacs):
    plain, distilled = (build_on_meta(lambda d=d: pit(variant, distilled=d)) for d in (False, True))
    counts = [sum(p.numel() for p in model.parameters()) for model in (plain, distilled)]
    assert counts == pytest.approx([parameters, distilled_parameters], abs=500)
    assert count_macs(plain, Spec(1000, 3, 224, 224)) / 1e9 == pytest.approx(gmacs, abs=0.005)


def stage_grids(model: nn.Module, height: int, width: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for stage in model.stages:
        stage.register_forward_pre_hook(lambda _, inputs: found.append(tuple(inputs[0].shape[2:])))
    model.to("meta")(torch.empty(1, 3, height, width, device="meta"))
    return found


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_stage_grids_at_224(variant):
    expected = (31, 16, 8) if variant == "b" else (27, 14, 7)
    assert stage_grids(build_on_meta(lambda: pit(variant)), 224, 224) == [(g, g) for g in expected]


class EveryTwoPixels(OverlappingStem):
    def stride(self, patch: int) -> int:
        return 2


@pytest.mark.parametrize(
    ("patch", "stem", "expected"),
    [(2, Patches(), (16, 8, 4)), (4, EveryTwoPixels(), (15, 8, 4)), (4, Patches(), (8, 4, 2))],
)
def test_stage_grids_of_small_images(patch, stem, expected):
    config = ViT(patch=patch, depths=(1, 1, 1), heads=1, head_dim=8, stem=stem, pooling=Pooling())
    model = config.build_network(Spec(10, 3, 32, 32), BlockSize(1, 8, 32))
    assert stage_grids(model, 32, 32) == [(g, g) for g in expected]


def test_stage_grids_of_rectangles():
    model = build_on_meta(lambda: pit("ti", image_size=(224, 160)))
    assert stage_grids(model, 224, 160) == [(27, 19), (14, 10), (7, 5)]


def test_the_config_makes_the_published_network():
    spec = Spec(7, 1, 96, 64)
    model = build_on_meta(lambda: PiT(variant="s", drop_path=0.1)(spec))
    same = build_on_meta(lambda: pit("s", (96, 64), 7, in_chans=1))
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in same.named_parameters()}
    assert [b.drop_path.rate for s in model.stages for b in s.blocks] == list(drop_path_rates(0.1, 12, "authors"))


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="no variant 'l'; there are ti, xs, s, b"):
        pit("l")  # type: ignore[arg-type]


# -- stochastic depth


def rates_in(model: nn.Module) -> list[float]:
    return [block.drop_path.rate for stage in model.stages for block in stage.blocks]


def test_drop_path_rates_of_both_rules():
    authors = rates_in(build_on_meta(lambda: pit("ti", drop_path=0.1)))
    assert authors == pytest.approx([0.1 * i / 12 for i in range(12)])
    assert authors[-1] == pytest.approx(0.0917, abs=1e-4)
    timms = rates_in(build_on_meta(lambda: pit("b", drop_path=0.3, drop_path_rule="timm")))
    expected = [rate for stage in calculate_drop_path_rates(0.3, [3, 6, 4], stagewise=True) for rate in stage]
    assert timms == pytest.approx(expected)
    assert authors != pytest.approx(rates_in(build_on_meta(lambda: pit("ti", drop_path=0.1, drop_path_rule="timm"))))


# -- the arms of the comparison

INITS = ("trunc_normal", "authors")
CIFAR, TINY = Spec(10, 3, 32, 32), Spec(10, 3, 12, 12)
ARMS = {
    "pit": (OverlappingStem(), Pooling()),
    "pit_stem": (OverlappingStem(), NoPooling()),
    "pit_pooling": (Patches(), Pooling()),
}
PLAIN = ViT(patch=8, depths=(1, 2, 1), heads=3, head_dim=32)


def with_slots(plain: ViT, arm: str) -> ViT:
    stem, pooling = ARMS[arm]
    values = {field: getattr(plain, field) for field in plain.__dataclass_fields__}
    return ViT(**{**values, "stem": stem, "pooling": pooling})


def assert_matched(plain: nn.Module, arms: dict[str, nn.Module], spec: Spec) -> None:
    macs = {name: count_macs(model, spec) for name, model in {"plain": plain, **arms}.items()}
    assert max(macs.values()) / min(macs.values()) <= 1.01
    for name, model in arms.items():
        (note,) = model.notes
        for network, cost in ((model, macs[name]), (plain, macs["plain"])):
            assert f"{cost:,} MACs, {sum(p.numel() for p in network.parameters()):,} parameters" in note


@pytest.mark.parametrize(("experiment", "spec"), [("smoke_vit", TINY), ("cifar10_small_vit", CIFAR)])
def test_the_shipped_arms_cost_the_same(experiment, spec):
    def model(*techniques):
        recipe = recipe_of(f"experiment={experiment}", techniques=techniques)
        assert recipe.techniques == techniques
        return build_on_meta(lambda: recipe.model(spec))

    assert_matched(model(), {arm: model(arm) for arm in ARMS}, spec)


def test_other_arms_cost_the_same():
    spec = Spec(100, 1, 32, 48)
    plain = ViT(patch=4, depths=(2, 1), heads=3, head_dim=20, mlp_ratio=3.0)
    arms = {arm: build_on_meta(lambda arm=arm: with_slots(plain, arm)(spec)) for arm in ARMS}
    assert_matched(build_on_meta(lambda: plain(spec)), arms, spec)


@pytest.mark.parametrize("arm", list(ARMS))
def test_negative_control_the_same_width_without_solving_costs_something_else(arm):
    plain, spec = PLAIN, CIFAR
    target = count_macs(build_on_meta(lambda: plain(spec)), spec)
    unmatched = build_on_meta(lambda: with_slots(plain, arm).build_network(spec, BlockSize(3, 32, 384)))
    assert abs(count_macs(unmatched, spec) / target - 1) > 0.01


def test_macs_of_a_plain_vit_and_of_pooling_by_hand():
    plain, spec = PLAIN, CIFAR
    tokens, w = 17, 96
    blocks = 4 * (12 * tokens * w**2 + 2 * tokens**2 * w)
    assert count_macs(build_on_meta(lambda: plain(spec)), spec) == 16 * (8 * 8 * 3) * w + blocks + 10 * w

    pooled = build_on_meta(lambda: with_slots(plain, "pit_pooling").build_network(spec, BlockSize(2, 8, 64)))
    expected = 16 * (8 * 8 * 3) * 16 + 10 * 64  # stem and classifier
    for depth, t, w in ((1, 17, 16), (2, 5, 32), (1, 2, 64)):
        expected += depth * (12 * t * w**2 + 2 * t**2 * w)
    expected += (4 * 9 * 32 + 16 * 32) + (1 * 9 * 64 + 32 * 64)  # convolutions on 2×2 and 1×1 cells, linear layers
    assert count_macs(pooled, spec) == expected


def test_heads_double_and_head_dim_stays():
    plain, spec = PLAIN, CIFAR
    model = build_on_meta(lambda: with_slots(plain, "pit")(spec))
    blocks = [stage.blocks[0] for stage in model.stages]
    widths, heads = [b.norm1.normalized_shape[0] for b in blocks], [b.attn.heads for b in blocks]
    assert [w // widths[0] for w in widths] == [h // heads[0] for h in heads] == [1, 2, 4]
    assert len({w / h for w, h in zip(widths, heads, strict=True)}) == 1
    ratios = {b.mlp.fc1.out_features / w for b, w in zip(blocks, widths, strict=True)}
    assert len(ratios) == 1


@torch.no_grad()
def worst_spread(model: nn.Module, init: str) -> float:
    """The largest relative distance of a linear layer's or convolution's weight spread from what `init` promises."""
    worst = 0.0
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight = module.weight
            assert weight.numel() > 400, "too few numbers to tell"
            by_fan_in = 1 / math.sqrt(3 * weight[0].numel())  # PyTorch's uniform in ±1/√fan-in
            promised = 0.02 if init == "trunc_normal" and isinstance(module, nn.Linear) else by_fan_in
            worst = max(worst, abs(float(weight.std()) / promised - 1))
    for embedding in (model.position_map, model.class_tokens):
        worst = max(worst, abs(float(embedding.std()) / 0.02 - 1) / 5)  # 48 numbers, so far less certain
    return worst


@pytest.mark.parametrize("arm", ["plain", *ARMS])
def test_every_arm_is_initialised_from_the_same_distribution(arm):
    def made(init):
        plain = ViT(patch=8, depths=(1, 2, 1), init=init)
        torch.manual_seed(0)
        return (plain if arm == "plain" else with_slots(plain, arm)).build_network(CIFAR, BlockSize(2, 24, 192))

    spreads = {(init, promised): worst_spread(made(init), promised) for init in INITS for promised in INITS}
    assert spreads["trunc_normal", "trunc_normal"] < 0.1
    assert spreads["authors", "authors"] < 0.1
    assert spreads["trunc_normal", "authors"] > 0.5  # negative control: each would be caught with the other's
    assert spreads["authors", "trunc_normal"] > 0.5
    assert not any(m.bias.any() for m in made("trunc_normal").modules() if isinstance(m, nn.Linear))


def test_solving_draws_no_random_number():
    plain, spec = PLAIN, CIFAR
    config = with_slots(plain, "pit")
    torch.manual_seed(3)
    solved = config(spec)
    first = solved.stages[0].blocks[0]
    size = BlockSize(first.attn.heads, first.norm1.normalized_shape[0] // first.attn.heads, first.mlp.fc1.out_features)
    torch.manual_seed(3)
    direct = config.build_network(spec, size)
    for (name, mine), other in zip(solved.named_parameters(), direct.parameters(), strict=True):
        assert torch.equal(mine, other), name


@torch.no_grad()
@pytest.mark.parametrize("global_pool", ["token", "avg"])
def test_the_plain_vit_is_timms_vision_transformer(global_pool):
    """The counterfactual of every arm: stages with nothing between them are one stack."""
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 10, "embed_dim": 96, "depth": 4, "num_heads": 3}
    oracle = randomised(TimmViT(**sizes, global_pool=global_pool)).eval()
    oracle.cls_token.normal_(generator=torch.Generator().manual_seed(2))
    oracle.pos_embed[:, 0] = 0  # timm's class token has a position, PiT's has none
    model = ViT(patch=8, depths=(1, 2, 1), heads=3, head_dim=32, global_pool=global_pool)(CIFAR).eval()
    norm = oracle.norm if global_pool == "token" else oracle.fc_norm
    weights = {
        "position_map": oracle.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
        "class_tokens": oracle.cls_token,
        **{f"stem.{k}": v for k, v in oracle.patch_embed.proj.state_dict().items()},
        **{f"norm.{k}": v for k, v in norm.state_dict().items()},
        **{f"classifiers.0.{k}": v for k, v in oracle.head.state_dict().items()},
    }
    for i, place in enumerate(("0.blocks.0", "1.blocks.0", "1.blocks.1", "2.blocks.0")):
        weights |= {f"stages.{place}.{k}": v for k, v in oracle.blocks[i].state_dict().items()}
    model.load_state_dict(weights)
    assert difference(model, oracle, images(32, 32, n=4)) <= TOLERANCE
    model.global_pool = "avg" if global_pool == "token" else "token"
    assert difference(model, oracle, images(32, 32, n=4)) > 100 * TOLERANCE
    model.global_pool = global_pool
    model.stages[1].blocks[0].attn.heads = 6
    assert difference(model, oracle, images(32, 32, n=4)) > 100 * TOLERANCE


# -- class tokens


def test_a_distilled_net_trains_on_the_mean_if_asked_to_as_timms_does():
    oracle = timm_pit("ti", distilled=True, img_size=64).train()
    model = copied(oracle, "ti", image_size=64, distilled=True).train()
    x = images(64, 64, n=2)
    assert isinstance(model(x), tuple)
    model.set_distilled_training(False)
    assert difference(model, oracle, x) <= TOLERANCE
    oracle.set_distilled_training(True)
    model.set_distilled_training(True)
    for mine, expected in zip(model(x), oracle(x), strict=True):
        torch.testing.assert_close(mine, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("distilled", "pair"), [("none", False), ("mean", False), ("pair", True)])
def test_the_config_says_what_a_distilled_net_gives_in_training(distilled, pair):
    model = build_on_meta(lambda: PiT(distilled=distilled)(Spec(5, 3, 32, 32))).train()
    assert model.class_tokens.shape[1] == (1 if distilled == "none" else 2)
    out = model(torch.empty(2, 3, 32, 32, device="meta"))
    assert [o.shape for o in (out if pair else [out])] == [(2, 5)] * (1 + pair)
    assert model.eval()(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 5)


def test_the_distilled_net_trains_with_any_objective_when_it_gives_the_mean():
    recipe = recipe_of("experiment=smoke_vit", "model=pit", "model.distilled=mean", "data.size=32")
    data, method, _ = workbench(recipe)
    metrics = method.train_step(data.loader(8, 0).batch(0), Progress(0, 1, 0, 1))
    assert metrics["train/loss"].isfinite()
    assert all(p.grad is not None for p in method.model.parameters())


def test_a_mean_over_patches_and_several_classifiers_do_not_go_together():
    with pytest.raises(ValueError, match="needs global_pool='token'"):
        pit("ti", distilled=True, global_pool="avg")
    with pytest.raises(ConfigError, match=r"^model: global_pool is avg; the distilled networks classify"):
        instantiate(PiT, {"distilled": "mean", "global_pool": "avg"}, "model")


@pytest.mark.parametrize("arm", list(ARMS))
def test_arms_that_classify_the_mean_of_the_patches_cost_the_same_too(arm):
    plain = ViT(patch=8, depths=(1, 2, 1), heads=3, head_dim=32, global_pool="avg")
    assert_matched(
        build_on_meta(lambda: plain(CIFAR)), {arm: build_on_meta(lambda: with_slots(plain, arm)(CIFAR))}, CIFAR
    )


def test_every_parameter_of_a_net_that_classifies_the_mean_gets_a_gradient():
    model = pit("ti", 32, num_classes=5, global_pool="avg")
    model(images(32, 32, n=2)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
@pytest.mark.parametrize(("side", "padded"), [(14, 1), (27, 2), (7, 2), (8, 1)])
def test_pooling_sees_the_padded_border_on_both_sides_of_an_odd_grid_and_on_one_of_an_even(side, padded):
    """A trait of the authors' layer that the card tells of, kept as it is."""
    layer = Pooling().layer(1)
    nn.init.ones_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    (row, *_), _ = layer(torch.ones(1, 1, side, side), torch.zeros(1, 1, 1))
    middle = row[0, row.shape[1] // 2]
    assert int((middle < 9).sum()) == padded
    assert middle[0] == 6


def test_pooling_makes_two_outputs_of_each_channel():
    maps, tokens = torch.zeros(1, 3, 5, 5), torch.zeros(1, 1, 3)
    maps[0, 1] = 1.0
    layer = Pooling().layer(3)
    nn.init.zeros_(layer.conv.bias)
    out, wider = layer(maps, tokens)
    assert out.shape == (1, 6, 3, 3)
    assert wider.shape == (1, 1, 6)
    assert [bool(c.any()) for c in out[0]] == [False, False, True, True, False, False]


def test_the_layer_norms_use_the_papers_epsilon():
    norms = [m for m in build_on_meta(lambda: pit("ti")).modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-6}
    assert DropPath(0.5).eval()(torch.ones(2, 1, 1)).tolist() == [[[1.0]], [[1.0]]]

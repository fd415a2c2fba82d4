"""Mobile nets: what a plan may change, what is left of small images, and which recipes the overlay fits."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

import paribus
from paribus.core.build import build, instantiate, to_config
from paribus.core.errors import ConfigError
from paribus.core.protocols import ModelFactory, Spec
from paribus.core.streams import stream, use_generator
from paribus.methods.optimizers import AdamW
from paribus.models.drop_path import DropPath
from paribus.models.inverted import (
    BlockSpec,
    BlockStyle,
    InvertedBottleneck,
    InvertedNet,
    SqueezeExcite,
    make_divisible,
)
from paribus.models.macs import count_macs
from paribus.models.mobile import Channels, MobileNet, StepwisePlan, choose_image_size
from paribus.models.vit_matching import build_on_meta
from paribus.recipe.configs import find_config_folder
from paribus.recipe.recipe import Recipe, build_recipe
from paribus.techniques.rexnet import LinearPlan, ReXNet


def pixels(height: int, width: int | None = None) -> Spec:
    return Spec(classes=10, channels=3, height=height, width=width or height)


def recipe(*overrides: str, techniques: tuple[str, ...] = ()) -> Recipe:
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        cfg = compose("train", [*overrides, f"technique=[{','.join(techniques) or 'baseline'}]"])
    return build_recipe(OmegaConf.to_container(cfg, resolve=True), list(techniques))


PRESETS = {"mobile": 32, "mobile_tiny": 12}


def arms(model: str) -> tuple[MobileNet, MobileNet]:
    """The two arms of a preset, as the command line composes them."""
    base, arm = (recipe("experiment=smoke_mobile", f"model={model}", techniques=t).model for t in ((), ("rexnet",)))
    assert isinstance(base, MobileNet)
    assert isinstance(arm, MobileNet)
    return base, arm


TINY, SMALL = arms("mobile_tiny"), arms("mobile")


def skeleton(net: nn.Module) -> list[Any]:
    """All of a net but the channels of its later blocks: kinds of layers in order, kernels, strides, rates, ends."""
    assert isinstance(net, InvertedNet)
    found: list[Any] = [net.stem.conv.out_channels, net.blocks[0].body.project.conv.out_channels]
    found += [net.head.conv.out_channels, net.classifier.in_features]
    for name, module in net.named_modules():
        found.append((name, type(module)))
        if isinstance(module, nn.Conv2d):
            found += [module.kernel_size, module.stride, module.padding, module.bias is not None, module.groups > 1]
            if module.groups > 1 and "blocks.0." not in name:
                body = net.get_submodule(name.removesuffix(".depthwise.conv"))
                found.append(module.in_channels / body.expand.conv.in_channels)
        if isinstance(module, nn.GroupNorm):
            found.append(module.num_groups)
        if isinstance(module, InvertedBottleneck) and module.new_channels >= 0:
            found.append(module.has_shortcut)
    return found


@pytest.mark.parametrize("model", PRESETS)
@pytest.mark.parametrize("options", [{}, {"se": True, "activation": "authors"}])
def test_both_arms_have_the_same_blocks_but_for_channels(model: str, options: dict[str, Any]) -> None:
    base, arm = (replace(net, **options) for net in (TINY if model == "mobile_tiny" else SMALL))
    assert to_config(base)["plan"] != to_config(arm)["plan"]
    assert replace(arm, plan=base.plan) == base
    spec = pixels(PRESETS[model])
    a, b = base(spec), arm(spec)
    assert skeleton(a) == skeleton(b)
    for name, tensor in a.state_dict().items():
        if name.startswith(("stem", "blocks.0.body.depthwise", "classifier.bias")):
            assert tensor.shape == b.state_dict()[name].shape
    assert [p.shape for p in a.parameters()] != [p.shape for p in b.parameters()]


@pytest.mark.parametrize("change", [{"head": 96}, {"strides": 224}, {"se": True}, {"expansion": 2}, {"norm": "none"}])
def test_mutation_the_comparison_of_blocks_sees_every_other_difference(change: dict[str, Any]) -> None:
    base, _ = TINY
    assert skeleton(base(pixels(12))) != skeleton(replace(base, **change)(pixels(12)))


def test_solving_for_a_width_draws_nothing_so_the_shared_stem_starts_equal() -> None:
    weights = []
    for net in TINY:
        with use_generator(stream(0, "init", "model")):
            weights.append(net(pixels(12)).get_parameter("stem.conv.weight"))
    assert torch.equal(*weights)


def test_the_linear_plan_widens_every_block_and_the_stepwise_plan_stays_in_steps() -> None:
    net = MobileNet()
    linear = replace(net, plan=LinearPlan()).channels(pixels(32)).blocks
    steps = {b - a for a, b in pairwise(linear)}
    assert max(steps) - min(steps) <= 1
    assert min(steps) > 0
    assert net.channels(pixels(32)) == Channels(
        32, (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
    )


@pytest.mark.parametrize(
    ("net", "spec"),
    [
        (MobileNet(), pixels(224)),
        (MobileNet(width=0.35, se=True), pixels(32)),
        (MobileNet(expansion=1, se=True, steps=(2,) * 7, stem=3), pixels(33, 20)),
        (MobileNet(strides=224, norm="none", neck=100), pixels(97, 65)),
        (MobileNet(norm="group", se=(0, 6), neck=100, divisor=4), pixels(97, 65)),
        (MobileNet(norm="none", se=True, neck=7), pixels(97, 65)),
        (MobileNet(width=1.4, strides=16), Spec(classes=7, channels=1, height=8, width=8)),
    ],
)
def test_the_cost_of_the_description_is_that_of_the_net(net: MobileNet, spec: Spec) -> None:
    channels = StepwisePlan().channels(net, net.width)
    built = build_on_meta(lambda: net.build_network(channels, spec))
    assert net.cost(channels, spec) == (count_macs(built, spec), sum(p.numel() for p in built.parameters()))


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [(8, 8, 2), (12, 12, 3), (16, 16, 4), (28, 28, 4), (32, 32, 4), (64, 64, 4), (96, 96, 6), (224, 224, 7)],
)
def test_strides_leave_a_grid_of_positions_for_any_image_size(height: int, width: int, grid: int) -> None:
    for factory in (MobileNet(width=0.35), ReXNet(width=0.5)):
        with torch.device("meta"):
            net = factory(pixels(height, width)).eval()
            assert isinstance(net, InvertedNet)
            assert net.blocks(net.stem(torch.empty(1, 3, height, width))).shape[2:] == (grid, grid)


def test_automatic_strides_follow_the_shorter_side_and_a_number_overrides_them() -> None:
    assert [choose_image_size("auto", pixels(s, 999)) for s in (20, 21, 48, 49, 128, 129)] == [16, 32, 32, 64, 64, 224]
    assert choose_image_size(224, pixels(16)) == 224


def test_channels_are_rounded_to_multiples_of_8_but_never_10_percent_down() -> None:
    assert [make_divisible(c) for c in (1, 8, 11, 11.2, 12, 19, 19.9, 33.6, 1280)] == [
        8,
        8,
        16,
        16,
        16,
        24,
        24,
        32,
        1280,
    ]


def test_a_partial_shortcut_adds_the_inputs_to_the_first_outputs() -> None:
    block = InvertedBottleneck(BlockSpec(3, 5, 2, 1, False), BlockStyle())
    nn.init.zeros_(block.body.project.norm.weight)  # type: ignore[union-attr]
    x = torch.randn(2, 3, 4, 4)
    out = block(x)
    assert torch.equal(out[:, :3], x)
    assert torch.equal(out[:, 3:], torch.zeros(2, 2, 4, 4))


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "shortcut", "wanted"),
    [
        (4, 4, 1, "equal", True),
        (4, 4, 1, "partial", True),
        (4, 5, 1, "partial", True),
        (4, 5, 1, "equal", False),
        (5, 4, 1, "partial", False),
        (4, 4, 2, "partial", False),
    ],
)
def test_shortcuts_are_where_the_rule_says(inputs: int, outputs: int, stride: int, shortcut: Any, wanted: bool) -> None:
    block = InvertedBottleneck(BlockSpec(inputs, outputs, 6, stride, False), BlockStyle(shortcut=shortcut))
    assert block.has_shortcut == wanted


def test_partial_shortcuts_add_two_to_mobilenet_v2s_ten() -> None:
    count = [
        sum(b.has_shortcut for b in MobileNet(shortcut=s, width=0.35, strides=224)(pixels(224)).blocks)  # type: ignore[union-attr]
        for s in ("equal", "partial")
    ]
    assert count == [10, 12]


def test_drop_path_drops_whole_samples_in_training_and_keeps_the_mean() -> None:
    layer, x = DropPath(0.25), torch.ones(4000, 2, 1, 1)
    with use_generator(stream(0, "test")):
        out = layer(x)
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(out[:, 0], out[:, 1])
    assert float(out.mean()) == pytest.approx(1.0, abs=0.05)
    assert layer.eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_grows_linearly_and_only_where_there_is_a_shortcut() -> None:
    blocks = paribus.rexnet(drop_path=0.3).blocks
    assert blocks[15].drop_path.rate == pytest.approx(0.3)
    assert blocks[6].drop_path.rate == pytest.approx(0.3 * 6 / 15)
    assert [i for i, b in enumerate(blocks) if b.drop_path.rate > 0] == [2, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]


def test_group_norm_has_one_group_whatever_the_channels_and_none_in_squeeze_excitation() -> None:
    net = replace(TINY[1], se=True)(pixels(12))
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {1}
    assert {type(m.norm) for m in net.modules() if isinstance(m, SqueezeExcite)} == {nn.Identity}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


NETS: list[ModelFactory] = [
    *TINY,
    *SMALL,
    replace(TINY[1], se=True, norm="none"),
    ReXNet(width=0.5, drop_path=0.1),
    ReXNet(width=0.5, lite=True),
]


@pytest.mark.parametrize("factory", NETS)
def test_every_parameter_gets_a_gradient(factory: ModelFactory) -> None:
    with use_generator(stream(0, "init", "model")):
        net = factory(pixels(16)).train()
        nn.functional.cross_entropy(net(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_overlay_swaps_the_plan_and_nothing_else() -> None:
    base = recipe("experiment=smoke_mobile")
    for techniques in (("rexnet",), ("cutmix", "rexnet")):
        arm = recipe("experiment=smoke_mobile", techniques=techniques)
        assert arm.techniques == techniques
        assert isinstance(arm.model, MobileNet)
        assert isinstance(arm.model.plan, LinearPlan)
        assert replace(arm.model, plan=StepwisePlan()) == base.model
        assert arm.id != base.id
    assert {**recipe("experiment=smoke_mobile", techniques=("rexnet",)).config, "model": 0, "techniques": 0} == {
        **base.config,
        "model": 0,
        "techniques": 0,
    }


@pytest.mark.parametrize("model", ["convnet", "cifar_resnet", "resnet18", "rexnet"])
def test_the_overlay_is_refused_on_other_models_and_names_those_it_fits(model: str) -> None:
    with pytest.raises(ConfigError, match=r"rexnet does not fit .* model=mobile, model=mobile_tiny and model=mobile_f"):
        recipe("experiment=smoke_mobile", f"model={model}", techniques=("rexnet",))


@pytest.mark.parametrize("experiment", ["smoke_mobile", "cifar10_small_mobile"])
@pytest.mark.parametrize("model", ["mobile", "mobile_tiny", "mobile_factorial", "rexnet"])
def test_every_mobile_preset_composes_and_is_described_and_built_again(experiment: str, model: str) -> None:
    factory = recipe(f"experiment={experiment}", f"model={model}").model
    assert build(to_config(factory)) == factory


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": (16, 24)}, "model.steps: found .* one number for each of the 7 stages of repeats"),
        ({"plan": AdamW()}, "model.plan: found AdamW"),
        ({"strides": 48}, "model.strides: found 48"),
        ({"width": 0.0}, "model.width"),
        ({"repeats": ()}, "model.repeats"),
    ],
)
def test_a_wrong_setting_is_told_with_its_path(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instantiate(MobileNet, wrong, "model")

"""ReXNet against timm's port, torchvision's MobileNetV2, a run of the authors' lite code, and the published counts."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from timm.models.rexnet import RexNet, _block_cfg
from torch import Tensor, nn

from paribus import load_timm_weights, rexnet, to_timm_state_dict
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.models import inverted
from paribus.models.inverted import InvertedNet, make_divisible
from paribus.models.macs import count_macs
from paribus.models.mobile import STRIDES, Channels, MobileNet, StepwisePlan, describe_blocks
from paribus.techniques import rexnet as technique
from paribus.techniques.rexnet import LinearPlan, PowerPlan, ReXNet, linear_channels, rexnet_channels

IMAGENET = Spec(classes=1000, channels=3, height=224, width=224)


def pixels(size: int) -> Spec:
    return Spec(classes=10, channels=3, height=size, width=size)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and BatchNorm statistics that no initialisation gives, at a scale that keeps the signal alive."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=draw)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.2, generator=draw)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=draw)
    return model


def with_timm(name: str = "rexnet_100") -> tuple[nn.Module, nn.Module]:
    """timm's net with random weights, and ours with the same."""
    theirs = randomised(timm.create_model(name, num_classes=10)).eval()
    width = int(name[-3:]) / 100
    divisor = 1 if "rexnet_" in name else 16 if width == 3 else 8
    ours = rexnet(width, num_classes=10, divisor=divisor).eval()
    load_timm_weights(ours, theirs.state_dict())
    return theirs, ours


@torch.no_grad()
def difference(theirs: nn.Module, ours: nn.Module, height: int, width: int) -> float:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    wanted = theirs(x)
    assert wanted.std() > 0.1  # else anything would agree
    return float((ours(x) - wanted).abs().max())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("rexnet_100", (224, 224)),
        ("rexnet_130", (97, 65)),
        ("rexnet_150", (64, 64)),
        ("rexnet_200", (33, 96)),
        ("rexnet_300", (65, 33)),
        ("rexnetr_100", (97, 65)),
        ("rexnetr_130", (33, 64)),
        ("rexnetr_150", (65, 65)),
        ("rexnetr_200", (31, 33)),
        ("rexnetr_300", (65, 33)),
    ],
)
def test_logits_are_timms(name: str, size: tuple[int, int]) -> None:
    assert difference(*with_timm(name), *size) <= 1e-5


@pytest.mark.parametrize("width", [0.5, 0.9, 2.2])
def test_logits_are_timms_at_widths_it_has_no_name_for(width: float) -> None:
    theirs = randomised(RexNet(width_mult=width, num_classes=10)).eval()
    ours = rexnet(width, num_classes=10).eval()
    load_timm_weights(ours, theirs.state_dict())
    assert difference(theirs, ours, 65, 97) <= 1e-5


def without_shortcuts(net: InvertedNet) -> None:
    for block in net.blocks:
        block.has_shortcut = False


def with_equal_shortcuts_only(net: InvertedNet) -> None:
    for block in net.blocks:
        block.has_shortcut = block.has_shortcut and block.new_channels == 0


def without_norm_in_squeeze_excitation(net: InvertedNet) -> None:
    for module in net.modules():
        if isinstance(module, inverted.SqueezeExcite):
            module.norm = nn.Identity()


def with_silu_after_depthwise(net: InvertedNet) -> None:
    for block in net.blocks:
        block.body.act = nn.SiLU()


def with_relu6_in_the_stem(net: InvertedNet) -> None:
    net.stem.act = nn.ReLU6()


@pytest.mark.parametrize(
    "alter",
    [
        without_shortcuts,
        with_equal_shortcuts_only,
        without_norm_in_squeeze_excitation,
        with_silu_after_depthwise,
        with_relu6_in_the_stem,
    ],
)
def test_negative_control_logits_differ_when_a_part_is_altered(alter: Callable[[InvertedNet], None]) -> None:
    theirs, ours = with_timm()
    assert difference(theirs, ours, 65, 97) <= 1e-5
    alter(ours)
    assert difference(theirs, ours, 65, 97) > 1e-2


def test_gradients_in_training_are_timms() -> None:
    theirs = randomised(timm.create_model("rexnet_100", num_classes=10, drop_rate=0.0)).double().train()
    ours = rexnet(num_classes=10, dropout=0.0).double().train()
    load_timm_weights(ours, theirs.state_dict())
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for net in (theirs, ours):
        nn.functional.cross_entropy(net(x), torch.arange(4)).backward()
    wanted, their_name = (
        dict(theirs.named_parameters()),
        dict(zip(ours.state_dict(), to_timm_state_dict(ours), strict=True)),
    )
    for name, parameter in ours.named_parameters():
        their_gradient = wanted[their_name[name]].grad
        assert parameter.grad is not None
        assert their_gradient is not None
        assert float((parameter.grad - their_gradient).abs().max()) <= 1e-9 * max(
            1.0, float(their_gradient.abs().max())
        )
    for name, statistic in ours.named_buffers():
        assert torch.allclose(statistic, theirs.get_buffer(their_name[name]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("other", ["rexnet_130", "rexnetr_200"])
def test_weights_of_another_network_are_refused_and_nothing_is_copied(other: str) -> None:
    ours = rexnet(num_classes=10)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(ValueError, match="own width and divisor"):
        load_timm_weights(ours, timm.create_model(other, num_classes=10).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_missing_and_surplus_weights_and_foreign_models_are_refused() -> None:
    theirs, ours = with_timm()
    state = theirs.state_dict()
    with pytest.raises(ValueError, match=r"stem\.bn\.weight is missing"):
        load_timm_weights(ours, {k: v for k, v in state.items() if k != "stem.bn.weight"})
    with pytest.raises(ValueError, match="extra has no place"):
        load_timm_weights(ours, {**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"made by paribus\.rexnet"):
        load_timm_weights(nn.Linear(1, 1), state)


# Published lists, as the authors' code gives them: width, blocks, lite, stem, channels.
LISTS = [
    (0.9, 16, False, 32, "16 26 36 46 56 67 77 87 97 107 117 127 138 148 158 168"),
    (1.0, 16, False, 32, "16 27 38 50 61 72 84 95 106 117 128 140 151 162 174 185"),
    (1.3, 16, False, 42, "21 35 50 65 79 94 109 123 138 152 167 182 196 211 226 240"),
    (1.5, 16, False, 48, "24 41 58 75 92 108 125 142 159 176 193 210 226 243 260 277"),
    (2.0, 16, False, 64, "32 54 77 100 122 144 167 190 212 234 257 280 302 324 347 370"),
    (1.0, 16, True, 32, "16 32 40 48 64 72 80 96 104 112 128 136 144 160 168 184"),
    (1.3, 16, True, 40, "24 32 48 64 80 96 104 120 136 152 160 176 192 208 224 232"),
    (1.5, 16, True, 48, "24 40 56 72 88 104 120 136 152 176 192 208 224 240 256 272"),
    (2.0, 16, True, 64, "32 56 80 96 120 144 160 184 208 232 248 272 296 320 336 360"),
]


@pytest.mark.parametrize(("width", "blocks", "lite", "stem", "channels"), LISTS)
def test_channel_lists_are_the_authors(width: float, blocks: int, lite: bool, stem: int, channels: str) -> None:
    assert rexnet_channels(width, blocks, lite) == Channels(stem, tuple(map(int, channels.split())))


def test_channel_lists_of_width_3_and_of_other_depths_end_as_published() -> None:
    assert rexnet_channels(3.0).blocks[:2] == (48, 82)
    assert rexnet_channels(3.0).blocks[-1] == 554
    for depth, blocks, last in [(2.0, 32, 190), (0.5, 10, 178)]:
        built = rexnet(depth=depth).blocks
        assert len(built) == blocks
        assert built[-1].body.project.conv.out_channels == last == rexnet_channels(1.0, blocks).blocks[-1]


def test_channel_lists_are_timms_at_every_width_and_depth() -> None:
    for width in (w / 20 for w in range(6, 64)):
        for depth in (0.5, 1.0, 1.4, 2.0):
            wanted = tuple(row[0] for row in _block_cfg(width, depth))
            assert rexnet_channels(width, len(wanted)).blocks == wanted
            for divisor in (8, 16):
                rounded = tuple(row[0] for row in _block_cfg(width, depth, ch_div=divisor))
                assert rexnet_channels(width, len(wanted), divisor=divisor).blocks == rounded


def half_up(x: float) -> int:
    return math.floor(x + 0.5)


def test_negative_control_rounding_halves_up_gives_other_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(technique, "round", half_up, raising=False)
    ours, published = rexnet_channels().blocks, tuple(map(int, LISTS[1][-1].split()))
    assert [(a, b) for a, b in zip(ours, published, strict=True) if a != b] == [(39, 38), (129, 128)]


def test_negative_control_one_step_less_or_the_other_denominator_gives_other_lists() -> None:
    wanted = rexnet_channels().blocks
    assert linear_channels(16, 180 / 15, 1.0, 16) != wanted
    assert linear_channels(16, 180 / 16, 1.0, 16) == wanted
    lite = rexnet_channels(lite=True).blocks
    assert tuple(make_divisible(c) for c in linear_channels(16, 164 / 16, 1.0, 16)) != lite
    assert tuple(make_divisible(c) for c in linear_channels(16, 164 / 15, 1.0, 16)) == lite


def costs(make: Callable[[], nn.Module], spec: Spec = IMAGENET) -> tuple[int, int]:
    with torch.device("meta"):
        net = make()
    return sum(p.numel() for p in net.parameters()), count_macs(net, spec)


COUNTS = [  # width, lite, parameters in millions to 0.01, multiply-accumulates in millions to 1 (to 10 from 1,000 on)
    (0.5, False, 1.79, 187),
    (0.75, False, 3.13, 280),
    (0.9, False, 4.09, 348),
    (1.0, False, 4.80, 398),
    (1.3, False, 7.56, 662),
    (1.5, False, 9.73, 876),
    (2.0, False, 16.37, 1530),
    (2.2, False, 19.49, 1840),
    (3.0, False, 34.71, 3400),
    (1.0, True, 4.74, 407),
    (1.3, True, 6.75, 646),
    (1.5, True, 8.33, 836),
    (2.0, True, 12.97, 1500),
]


@pytest.mark.parametrize(("width", "lite", "parameters", "macs"), COUNTS)
def test_parameters_and_macs_are_the_published_ones(width: float, lite: bool, parameters: float, macs: int) -> None:
    found, found_macs = costs(lambda: rexnet(width, lite=lite))
    assert round(found / 1e6, 2) == parameters
    assert round(found_macs / 1e6, 0 if macs < 1000 else -1) == macs


def test_negative_control_a_smaller_squeeze_gives_other_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted, "SQUEEZE", 16)
    assert round(costs(rexnet)[0] / 1e6, 2) != 4.80


def test_mobilenet_v2_at_every_width_has_torchvisions_parameters_and_macs() -> None:
    assert [round(n / 1e6, k) for n, k in zip(costs(lambda: MobileNet()(IMAGENET)), (2, 0), strict=True)] == [3.50, 301]
    for width in (0.35, 1.4):
        net = MobileNet(width=width, head=make_divisible(1280 * max(1.0, width)))
        theirs = costs(lambda w=width: torchvision.models.mobilenet_v2(width_mult=w))
        assert costs(lambda n=net: n(IMAGENET)) == theirs


def in_order(source: nn.Module, into: nn.Module) -> None:
    """Copy the tensors of one net into another that lists the same ones under other names."""
    theirs, ours = source.state_dict(), into.state_dict()
    into.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def test_mobilenet_v2_logits_are_torchvisions_with_equal_shortcuts_and_only_then() -> None:
    theirs = randomised(torchvision.models.mobilenet_v2(num_classes=10)).eval()
    for shortcut, agrees in [("equal", True), ("partial", False)]:
        ours = MobileNet(shortcut=shortcut, strides=224)(pixels(64)).eval()
        in_order(theirs, ours)
        assert (difference(theirs, ours, 97, 65) <= 1e-5) == agrees


# The first run of the authors' lite code (width 1.3, 10 classes, float64) on `waves`.
LITE_LOGITS = [
    5.973513986589637,
    4.423115541756425,
    -5.582058651934838,
    2.00107273543425,
    6.995981203824819,
    -3.9839166512807624,
    -2.351949342660899,
    7.430213680097247,
    -0.4093902492775372,
    -5.276774492084616,
]


def waves(tensors: Iterable[Tensor]) -> None:
    """Numbers that can be made again anywhere, in place."""
    for k, tensor in enumerate(tensors):
        if tensor.is_floating_point():
            wave = torch.cos(0.37 * torch.arange(tensor.numel(), dtype=tensor.dtype) + k).reshape(tensor.shape)
            tensor.copy_(wave * (2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 1 + 0.3 * wave)


@torch.no_grad()
def lite_error(net: nn.Module) -> float:
    net = net.eval().double()
    waves(net.state_dict().values())
    x = torch.cos(0.1 * torch.arange(3 * 65 * 49, dtype=torch.float64)).reshape(1, 3, 65, 49)
    return float((net(x)[0] - torch.tensor(LITE_LOGITS, dtype=torch.float64)).abs().max())


def test_lite_logits_are_those_of_the_authors_code() -> None:
    assert lite_error(rexnet(1.3, lite=True, num_classes=10)) <= 1e-9


def test_negative_control_lite_with_silu_is_not_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    built = technique.InvertedNet
    monkeypatch.setattr(technique, "InvertedNet", lambda b, s, **k: built(b, inverted.BlockStyle("silu"), **k))
    assert lite_error(rexnet(1.3, lite=True, num_classes=10)) > 1e-2


NOTE = re.compile(
    r"LinearPlan at width ([\d.]+): ([\d,]+) MACs, ([\d,]+) parameters; "
    r"StepwisePlan at width ([\d.]+): ([\d,]+) MACs, ([\d,]+) parameters; MACs differ by ([-+][\d.]+)%"
)


def numbers(note: str) -> list[float]:
    found = NOTE.fullmatch(note)
    assert found, note
    return [float(part.replace(",", "")) for part in found.groups()]


MATCHED = [(0.5, 16), (1.0, 32), (1.4, 64)]


@pytest.mark.parametrize(("width", "size"), MATCHED)
def test_the_linear_plan_costs_what_the_stepwise_plan_costs_and_says_so(width: float, size: int) -> None:
    spec = pixels(size)
    linear = MobileNet(width=width, plan=LinearPlan())(spec)
    stepwise = MobileNet(width=width)(spec)
    assert isinstance(linear, InvertedNet)
    assert stepwise.notes == ()
    (note,) = linear.notes
    solved, macs, parameters, told_width, target, target_parameters, percent = numbers(note)
    assert (macs, target) == (count_macs(linear, spec), count_macs(stepwise, spec))
    assert abs(macs / target - 1) <= 0.01
    assert percent == pytest.approx(100 * (macs / target - 1), abs=0.006)
    assert parameters == sum(p.numel() for p in linear.parameters())
    assert target_parameters == sum(p.numel() for p in stepwise.parameters())
    assert told_width == width
    assert 0 < solved < width


def test_a_power_of_one_is_the_line_and_others_bend_it_at_the_same_cost() -> None:
    spec, net = pixels(32), MobileNet(width=0.5)
    target, _ = net.cost(StepwisePlan().channels(net, 0.5), spec)
    line = replace(net, plan=LinearPlan()).channels(spec).blocks
    assert replace(net, plan=PowerPlan()).channels(spec).blocks == line
    early, late = (replace(net, plan=PowerPlan(power=power)).channels(spec) for power in (0.5, 2.0))
    for plan in (early, late):
        assert abs(net.cost(plan, spec)[0] / target - 1) <= 0.01
        assert plan.blocks[0] == line[0], "the same ends"
    assert early.blocks[4] > line[4] > late.blocks[4]
    assert early.blocks[-1] < line[-1] < late.blocks[-1]


def test_negative_control_without_solving_the_costs_differ() -> None:
    net, spec = MobileNet(), pixels(32)
    target, _ = net.cost(StepwisePlan().channels(net, 1.0), spec)
    unsolved = Channels(32, linear_channels(16, 180 / 17, 1.0, 17))
    assert abs(net.cost(unsolved, spec)[0] / target - 1) > 0.1


def test_a_net_too_thin_to_match_is_refused() -> None:
    with pytest.raises(ConfigError, match="no width comes within 1%"):
        MobileNet(plan=LinearPlan(), repeats=(1, 2), steps=(8, 16), stem=8, head=8)(pixels(16))


def test_the_matched_arm_with_the_papers_blocks_follows_the_papers_plan() -> None:
    net = MobileNet(
        plan=LinearPlan(), repeats=(1, 2, 2, 3, 3, 5), steps=(16, 24, 32, 64, 96, 160), se=True, activation="authors"
    )
    solved = net.channels(IMAGENET)
    width = numbers(solved.notes[0])[0]
    assert width < 1
    published = rexnet_channels(width)
    assert solved.stem == published.stem
    # the note gives four decimals of the width, which can move a channel that lies at a half
    assert max(abs(a - b) for a, b in zip(solved.blocks, published.blocks, strict=True)) <= 1
    full = net.build_network(rexnet_channels(), IMAGENET)
    in_order(full, rexnet())  # at width 1 these are the tensors of ReXNet itself


def test_rexnet_for_small_images_keeps_a_grid_and_its_blocks() -> None:
    for size in (16, 32, 64):
        net = ReXNet()(pixels(size))
        assert isinstance(net, InvertedNet)
        stem_stride, halving = STRIDES[size]
        wanted = describe_blocks(rexnet_channels(), technique.REPEATS, halving, 6, range(2, 6))
        strides = [block.body.depthwise.conv.stride[0] for block in net.blocks]
        assert strides == [block.stride for block in wanted]
        assert size / (stem_stride * math.prod(strides)) == 4
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_negative_control_dividing_before_rounding_gives_other_lists() -> None:
    line = linear_channels(16, 180 / 16, 1.3, 16)
    assert tuple(make_divisible(c, 8) for c in line) == rexnet_channels(1.3, divisor=8).blocks
    assert tuple(8 * round(c / 8) for c in line) != rexnet_channels(1.3, divisor=8).blocks  # without the 10 % guard


@pytest.mark.parametrize(
    "wrong",
    [
        {"divisor": 0},
        {"divisor": 8, "lite": True},
        {"width": 0.0},
        {"depth": -1.0},
        {"dropout": 1.0},
        {"drop_path": -0.1},
        {"strides": 48},
    ],
)
def test_rexnet_refuses_what_it_cannot_build(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rexnet needs"):
        rexnet(**wrong)

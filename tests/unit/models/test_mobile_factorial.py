"""What ReXNet changed at once, taken apart: every cell of the factorial is a list of overrides and costs the same."""

import itertools
import re

import pytest
import torch
from torch import nn

import paribus
from helpers.trainings import recipe_of
from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.models.inverted import InvertedNet, SqueezeExcite
from paribus.models.inverted_cost import Cost
from paribus.models.mobile import MobileNet
from paribus.models.vit_matching import build_on_meta
from paribus.recipe.configs import find_config_folder

LARGE, SMALL = Spec(classes=1000, channels=3, height=224, width=224), Spec(classes=10, channels=3, height=32, width=32)
LINEAR, EXCITED = ("technique=rexnet",), ("model.se=true",)


def cell(*overrides: str) -> MobileNet:
    techniques = tuple(o.partition("=")[2] for o in overrides if o.startswith("technique="))
    rest = [o for o in overrides if not o.startswith("technique=")]
    model = recipe_of("experiment=smoke_mobile", "model=mobile_factorial", *rest, techniques=techniques).model
    assert isinstance(model, MobileNet)
    return model


def cost(net: MobileNet, spec: Spec) -> Cost:
    return net.cost(net.channels(spec), spec)


# -- the table in the preset


def table() -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """Overrides of a row to (million MACs, million parameters) in each column."""
    text = (find_config_folder() / "model" / "mobile_factorial.yaml").read_text()
    rows = re.findall(r"^#   (\(nothing\)|[\w=. ]+?) {2,}((?: *[\d.]+ / [\d.]+){4})$", text, flags=re.MULTILINE)
    pairs = {name: re.findall(r"([\d.]+) / ([\d.]+)", numbers) for name, numbers in rows}
    return {
        () if name == "(nothing)" else tuple(name.split()): [(float(a), float(b)) for a, b in found]
        for name, found in pairs.items()
    }


COLUMNS = [(LARGE, "macs"), (LARGE, "params"), (SMALL, "macs"), (SMALL, "params")]


@pytest.mark.parametrize("row", [(), EXCITED, LINEAR, (*LINEAR, *EXCITED)])
def test_the_table_in_the_preset_is_what_the_cells_cost_and_matched_ones_are_within_1_percent(
    row: tuple[str, ...],
) -> None:
    assert len(table()) == 4
    for (spec, match), told, first in zip(COLUMNS, table()[row], table()[()], strict=True):
        net = cell(*row, f"model.match={match}")
        found = cost(net, spec)
        assert (round(found.macs / 1e6, 2), round(found.parameters / 1e6, 3)) == told
        which = 0 if match == "macs" else 1
        assert abs(told[which] / first[which] - 1) <= 0.01


def test_activations_and_shortcuts_cost_nothing() -> None:
    wanted = cost(cell(*LINEAR, *EXCITED), SMALL)
    for activation, shortcut in itertools.product(("relu6", "silu", "authors"), ("partial", "equal")):
        net = cell(*LINEAR, *EXCITED, f"model.activation={activation}", f"model.shortcut={shortcut}")
        assert cost(net, SMALL) == wanted


@pytest.mark.parametrize("extra", [("model.se=[4,5]",), ("model.neck=1024",), ("model.stem=16", "model.head=640")])
@pytest.mark.parametrize("match", ["macs", "params"])
def test_other_settings_are_matched_to_the_same_net_without(extra: tuple[str, ...], match: str) -> None:
    plain = cost(cell(*(e for e in extra if "se=" not in e)), SMALL)
    for channels in ((), LINEAR):
        found = cost(cell(*channels, *extra, f"model.match={match}"), SMALL)
        which = 0 if match == "macs" else 1
        assert abs(found[which] / plain[which] - 1) <= 0.01


def test_negative_control_unmatched_cells_differ_in_cost() -> None:
    baseline = cost(cell(), SMALL)
    for row in (LINEAR, EXCITED, (*LINEAR, *EXCITED)):
        found = cost(cell(*row, "model.match=off"), SMALL)
        assert abs(found.macs / baseline.macs - 1) > 0.01
        assert abs(found.parameters / baseline.parameters - 1) > 0.1


def test_the_note_says_what_was_matched_to_what() -> None:
    (note,) = cell(*EXCITED, "model.match=params").channels(SMALL).notes
    assert note.startswith("StepwisePlan at width 0.")
    assert "; StepwisePlan without squeeze-excitation at width 1: 43,758,080 MACs, 2,236,682 parameters; param" in note
    assert cell("model.activation=silu").channels(SMALL).notes == ()
    with pytest.raises(ConfigError, match=r"no width comes within 1% of 43,758,080 MACs; .* a smaller divisor"):
        cell(*EXCITED, "model.divisor=8").channels(SMALL)


def test_ends_stay_whatever_is_solved() -> None:
    nets = [build_on_meta(lambda row=row: cell(*row)(SMALL)) for row in ((), LINEAR, EXCITED, (*LINEAR, *EXCITED))]
    for net in nets:
        assert isinstance(net, InvertedNet)
    ends = {
        (n.stem.conv.out_channels, n.blocks[0].body.project.conv.out_channels, n.head.conv.out_channels) for n in nets
    }
    assert ends == {(32, 16, 1280)}


# -- the factors


def test_squeeze_excitation_is_where_it_is_asked_for() -> None:
    def stages(se: str) -> list[bool]:
        net = build_on_meta(lambda: cell(f"model.se={se}", "model.match=off")(SMALL))
        return [any(isinstance(m, SqueezeExcite) for m in block.modules()) for block in net.blocks]  # type: ignore[union-attr]

    assert stages("false") == [False] * 17
    assert stages("true") == [False] * 3 + [True] * 14
    assert stages("[0,6]") == [True] + [False] * 15 + [True]
    assert stages("[]") == stages("false")
    with pytest.raises(ConfigError, match=r"model.se: found \(7,\); should be true, false or a list of stages"):
        cell("model.se=[7]")


@pytest.mark.parametrize(
    ("activation", "relu6", "silu"), [("relu6", 17 + 18, 0), ("silu", 0, 17 + 18), ("authors", 17, 18)]
)
def test_activations_are_where_their_name_says(activation: str, relu6: int, silu: int) -> None:
    net = build_on_meta(lambda: cell(f"model.activation={activation}")(SMALL))
    assert sum(isinstance(m, nn.ReLU6) for m in net.modules()) == relu6
    assert sum(isinstance(m, nn.SiLU) for m in net.modules()) == silu
    assert isinstance(net.blocks[3].body.act, nn.SiLU if activation == "silu" else nn.ReLU6)  # type: ignore[union-attr]


@pytest.mark.parametrize("plan", [(), LINEAR])
@pytest.mark.parametrize("divisor", [1, 4, 8, 16])
def test_with_a_divisor_every_number_of_channels_is_a_multiple_of_it(plan: tuple[str, ...], divisor: int) -> None:
    net = build_on_meta(lambda: cell(*plan, *EXCITED, f"model.divisor={divisor}", "model.match=off")(SMALL))
    counts = {m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)}
    assert {count % divisor for count in counts} == {0}
    assert divisor > 1 or plan == () or any(count % 8 for count in counts)


@torch.no_grad()
def test_rexnet_itself_is_a_cell() -> None:
    ours = cell(
        *(*LINEAR, *EXCITED, "model.activation=authors", "model.repeats=[1,2,2,3,3,5]"),
        *("model.steps=[16,24,32,64,96,160]", "model.match=off"),
    )(SMALL)
    published = paribus.rexnet(num_classes=10, strides=32)
    ours.load_state_dict(published.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    wanted = published.train()(x)
    torch.manual_seed(1)
    assert torch.equal(ours.train()(x), wanted)


def test_a_neck_is_the_lite_nets() -> None:
    net = build_on_meta(lambda: cell("model.neck=1024")(SMALL))
    lite = build_on_meta(lambda: paribus.rexnet(lite=True, num_classes=10))
    assert isinstance(net, InvertedNet)
    assert isinstance(lite, InvertedNet)
    assert {n: p.shape for n, p in net.neck.named_parameters()} == {n: p.shape for n, p in lite.neck.named_parameters()}
    assert net.classifier.weight.shape == lite.classifier.weight.shape == (10, 1024)

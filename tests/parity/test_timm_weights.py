"""timm's weights into our networks and back under one name each, with PiT's position map on another grid."""

import itertools
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import paribus
from paribus.core.protocols import Spec
from paribus.core.streams import stream
from paribus.interop.timm_weights import resize_position_map
from paribus.models.vit import ViT
from paribus.models.vit_matching import build_on_meta

CASES = {
    "rexnet_100": lambda: paribus.rexnet(1.0, num_classes=7),
    "rexnetr_130": lambda: paribus.rexnet(1.3, num_classes=7, divisor=8),
    "pit_ti_224": lambda: paribus.pit("ti", num_classes=7),
    "pit_ti_distilled_224": lambda: paribus.pit("ti", num_classes=7, distilled=True),
}


@torch.no_grad()
def distance(a: nn.Module, b: nn.Module) -> float:
    x = torch.randn(2, 3, 224, 224, generator=stream(0, "x"))
    return float((a.eval()(x) - b.eval()(x)).abs().max())


@pytest.mark.parametrize("name", CASES)
def test_logits_are_timms_both_ways(name: str) -> None:
    theirs, ours = timm.create_model(name, num_classes=7), CASES[name]()
    assert distance(theirs, ours) > 1e-3  # negative control: before loading they differ
    paribus.load_timm_weights(ours, theirs.state_dict())
    assert distance(theirs, ours) <= 1e-5

    back, other = timm.create_model(name, num_classes=7), CASES[name]()
    back.load_state_dict(paribus.to_timm_state_dict(other), strict=True)
    assert distance(back, other) <= 1e-5 < 1e-3 < distance(back, ours)
    assert list(paribus.to_timm_state_dict(other)) != list(other.state_dict())
    paribus.load_timm_weights(ours, paribus.to_timm_state_dict(other))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), other.state_dict().values(), strict=True))


def test_other_networks_and_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"made by paribus\.rexnet \(but not lite\) or paribus\.pit; this Linear has"):
        paribus.load_timm_weights(nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match="these weights do not fit"):
        paribus.load_timm_weights(CASES["rexnet_100"](), timm.create_model("pit_ti_224", num_classes=7).state_dict())
    for made in (lambda: paribus.rexnet(lite=True), lambda: ViT()(Spec(10, 3, 32, 32))):
        with pytest.raises(ValueError, match="has no counterpart there"):
            paribus.to_timm_state_dict(build_on_meta(made))


# -- the position map


def smooth(height: int, width: int) -> Tensor:
    """A map of slow waves over the unit square, sampled at cell centres."""
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5)[None, :] / width
    waves = [torch.cos(math.pi * (a * y + b * x) + a) for a, b in itertools.product((0, 1, 2), (1, 2))]
    return torch.stack(waves)[None]


def test_a_map_of_the_same_grid_is_left_as_it_is() -> None:
    position_map = torch.randn(1, 5, 27, 27)
    assert resize_position_map(position_map, (27, 27)) is position_map


@pytest.mark.parametrize("grid", [(19, 19), (40, 33), (7, 27)])
def test_a_constant_map_stays_constant_and_a_mean_stays_about_the_same(grid: tuple[int, int]) -> None:
    assert torch.allclose(
        resize_position_map(torch.full((1, 2, 27, 27), 0.7), grid), torch.full((1, 2, *grid), 0.7), atol=1e-6
    )
    position_map = 1 + torch.randn(1, 16, 27, 27, generator=stream(0, "map"))
    assert torch.allclose(resize_position_map(position_map, grid).mean((2, 3)), position_map.mean((2, 3)), atol=0.05)
    assert resize_position_map(position_map.bfloat16(), grid).dtype == torch.bfloat16


@pytest.mark.parametrize("grid", [(19, 19), (40, 33)])
def test_a_smooth_map_on_another_grid_is_the_same_map_and_bicubic_is_nearer_to_it_than_bilinear(
    grid: tuple[int, int],
) -> None:
    wanted, position_map = smooth(*grid), smooth(27, 27)

    def error(found: Tensor) -> float:
        return float((found - wanted).square().mean().sqrt())

    bilinear = F.interpolate(position_map, list(grid), mode="bilinear", antialias=True)
    assert error(resize_position_map(position_map, grid)) < 0.02
    assert error(resize_position_map(position_map, grid)) < error(bilinear)
    assert error(resize_position_map(position_map.flip(2), grid)) > 0.3  # negative control


@torch.no_grad()
def test_weights_for_224_pixels_load_into_a_net_for_160_and_say_nearly_the_same_of_smooth_images() -> None:
    """Smooth map, smooth image: the smaller net sees the same picture in fewer patches."""
    torch.manual_seed(0)
    large, small, untouched = (paribus.pit("ti", size, num_classes=7).eval() for size in (224, 160, 160))
    large.position_map.copy_(smooth(27, 27).repeat(1, 11, 1, 1)[:, : large.position_map.shape[1]])
    paribus.load_timm_weights(small, paribus.to_timm_state_dict(large))
    assert small.position_map.shape[2:] == (19, 19)
    image = smooth(224, 224)[:, :3]
    wanted, found = large(image), small(F.interpolate(image, (160, 160), mode="bicubic", antialias=True))
    assert (found - wanted).abs().max() < 0.15 * wanted.std()
    small.position_map.copy_(untouched.position_map)  # negative control: with a map of its own it says something else
    assert (small(F.interpolate(image, (160, 160))) - wanted).abs().max() > 0.3 * wanted.std()

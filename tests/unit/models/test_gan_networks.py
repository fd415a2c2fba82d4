"""Generators and discriminators: what they give, what a change of maps reaches, sizes that they refuse."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paribus.core.errors import ConfigError
from paribus.core.generation import Discriminates, Generates
from paribus.core.protocols import Spec
from paribus.models.dcgan import DCGANDiscriminator, DCGANGenerator
from paribus.models.residual_gan import ResidualGANDiscriminator, ResidualGANGenerator

SPEC = Spec(5, 3, 16, 24)
GENERATORS: dict[str, Any] = {
    "dcgan": lambda **more: DCGANGenerator(latent=7, widths=(12, 8, 4), **more),
    "residual": lambda **more: ResidualGANGenerator(latent=7, width=8, doublings=3, **more),
}
DISCRIMINATORS: dict[str, Any] = {
    "dcgan": lambda **more: DCGANDiscriminator(widths=(4, 8, 12), **more),
    "residual": lambda **more: ResidualGANDiscriminator(width=8, halvings=3, **more),
}


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 24, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_makes_images_of_the_datas_size_and_maps_that_grow(kind: str, conditional: bool) -> None:
    network = GENERATORS[kind](conditional=conditional)(SPEC)
    assert isinstance(network, Generates)
    assert (network.latent, network.classes) == (7, 5 if conditional else 0)
    classes = torch.eye(5)[:3] if conditional else None
    made = network(torch.randn(3, 7), classes)
    assert made.images.shape == (3, 3, 16, 24)
    assert made.images.abs().max() <= 1
    smallest = {"dcgan": [(2, 3), (4, 6), (8, 12)], "residual": [(2, 3), (4, 6), (8, 12), (16, 24)]}[kind]
    assert [tuple(maps.shape[2:]) for maps in made.maps] == smallest
    if conditional:
        noise = torch.randn(3, 7)
        assert not torch.equal(network(noise, classes).images, network(noise, classes.roll(1, 0)).images)  # type: ignore[union-attr]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_discriminator_scores_each_image_by_itself(kind: str, conditional: bool) -> None:
    network = DISCRIMINATORS[kind](conditional=conditional)(SPEC).eval()
    assert isinstance(network, Discriminates)
    classes = torch.eye(5)[:3] if conditional else None
    judged = network(images(), classes)
    assert judged.scores.shape == (3,)
    one = network(images()[1:2], None if classes is None else classes[1:2])
    assert torch.allclose(one.scores, judged.scores[1:2], atol=1e-6)
    if conditional:
        assert not torch.allclose(network(images(), classes.roll(1, 0)).scores, judged.scores)  # type: ignore[union-attr]
    sizes = [tuple(maps.shape[2:]) for maps in judged.maps]
    assert sizes[:3] == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_change_is_of_every_convolution_and_of_no_other_layer(kind: str) -> None:
    network = DISCRIMINATORS[kind]()(SPEC).eval()
    seen: list[tuple[int, tuple[int, ...]]] = []

    def watch(maps: Tensor, layer: int) -> Tensor:
        seen.append((layer, tuple(maps.shape)))
        return maps

    plain = network(images()).scores
    assert torch.equal(network(images(), None, watch).scores, plain)
    threes = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert [layer for layer, _ in seen] == list(range(len(threes)))
    for layer in range(len(threes)):
        changed = network(images(), None, lambda maps, i, layer=layer: maps + 1 if i == layer else maps).scores
        assert not torch.allclose(changed, plain, atol=1e-5), layer


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_spectral_normalisation_holds_every_layers_norm_at_one(kind: str) -> None:
    for spectral in (True, False):
        network = DISCRIMINATORS[kind](spectral=spectral, conditional=True)(SPEC).train()
        for _ in range(30):  # of the power iteration
            network(images(), torch.eye(5)[:3])
        layers = [m for m in network.eval().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        norms = [float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2)) for m in layers]
        assert (max(abs(norm - 1) for norm in norms) < 0.05) == spectral


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (DCGANGenerator(widths=(8, 8, 8, 8)), "model.widths"),
        (ResidualGANGenerator(doublings=4), "model.doublings"),
        (DCGANDiscriminator(widths=(8, 8, 8, 8)), "method.discriminator.widths"),
        (ResidualGANDiscriminator(halvings=4), "method.discriminator.halvings"),
    ],
)
def test_a_size_that_cannot_be_halved_so_often_is_refused(make: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: found 4 stages.*16×24"):
        make(SPEC)

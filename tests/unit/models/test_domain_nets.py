"""One network for all domains or one for each two: who knows what, how wide they are, who translates."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from paribus.core.errors import ConfigError
from paribus.core.protocols import Spec
from paribus.models.domain_nets import Division, OneForEachPair
from paribus.models.stargan import StarGANDiscriminator, StarGANGenerator, StarGANGeneratorNet
from paribus.techniques.stargan import OneForAll

SPEC = Spec(4, 3, 16, 16)
PAIRS = tuple(itertools.combinations(range(4), 2))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_pairs_are_as_large_together_as_one_network_or_each() -> None:
    one = StarGANGenerator(width=16, blocks=2, nets=OneForAll())(SPEC)
    assert isinstance(one, StarGANGeneratorNet)
    pairs = StarGANGenerator(width=16, blocks=2)(SPEC)
    wide = StarGANGenerator(width=16, blocks=2, budget="each")(SPEC)
    assert isinstance(pairs, StarGANGeneratorNet)
    assert pairs.division.members == PAIRS
    assert abs(count(pairs) / count(one) - 1) < 0.05
    assert 5.8 < count(wide) / count(one) < 6
    discriminator = StarGANDiscriminator(width=16, layers=3)
    judges = discriminator.divided(pairs.division)(SPEC)
    assert abs(count(judges) / count(discriminator(SPEC)) - 1) < 0.05
    assert f"{count(pairs):,} parameters" in str(pairs.notes)
    assert f"{count(judges):,} parameters" in str(judges.notes)


def test_with_two_domains_both_are_the_same_network() -> None:
    spec = Spec(2, 3, 16, 16)
    shapes = [
        [p.shape for p in StarGANGenerator(width=6, blocks=1, nets=nets)(spec).parameters()]
        for nets in (OneForAll(), OneForEachPair())
    ]
    assert shapes[0] == shapes[1]


def test_weights_are_restricted_to_the_domains_of_each_network() -> None:
    weights = torch.tensor([[0.0, 1, 0, 0], [0.25, 0, 0, 0.75]])
    found = Division(PAIRS, 4).restrict(weights)
    assert found.shape == (2, 6, 2)
    for k, (a, b) in enumerate(PAIRS):
        assert torch.equal(found[:, k], weights[:, [a, b]])
    assert torch.equal(Division(((0, 1, 2, 3),), 4).restrict(weights)[:, 0], weights)


def test_a_translation_is_that_of_the_network_which_knows_both_domains() -> None:
    network = StarGANGenerator(width=6, blocks=1)(SPEC)
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    sources, targets = (x.flatten() for x in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    with torch.no_grad():
        found = network(images, targets, sources)
        for i, (a, b) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            k = next(k for k, pair in enumerate(PAIRS) if a in pair and b in pair)  # to its own domain: the first
            asked = torch.nn.functional.one_hot(torch.tensor([PAIRS[k].index(b)]), 2).float()
            assert torch.allclose(found[i : i + 1], network.nets[k](images[i : i + 1], asked), atol=1e-5)  # type: ignore[operator]
    with pytest.raises(ValueError, match="sources"):
        network(images, targets)


def test_networks_without_an_image_to_translate_are_left_out() -> None:
    """As where each image goes to the next domain of four: nobody then knows domains 0 and 2."""
    network = StarGANGenerator(width=6, blocks=1)(SPEC)
    images, sources = torch.zeros(4, 3, 16, 16), torch.arange(4)
    found = network(images, (sources + 1) % 4, sources)
    one = torch.cat([network(images[k : k + 1], (sources[k : k + 1] + 1) % 4, sources[k : k + 1]) for k in range(4)])
    assert torch.allclose(found, one, atol=1e-6)
    assert network(images[:0], sources[:0], sources[:0]).shape == (0, 3, 16, 16)


def test_of_no_image_one_network_for_all_domains_gives_none() -> None:
    """As in a batch of evaluation none of whose images is among those chosen."""
    network = StarGANGenerator(width=6, blocks=1, nets=OneForAll())(SPEC)
    none = torch.arange(0)
    assert network(torch.zeros(0, 3, 16, 16), none, none).shape == (0, 3, 16, 16)


@pytest.mark.parametrize("size", [32, 128])
def test_networks_are_right_for_small_and_large_images(size: int) -> None:
    spec, layers = Spec(5, 3, size, size), {32: 4, 128: 6}[size]
    with torch.device("meta"):
        generator = StarGANGenerator(nets=OneForAll())(spec)
        discriminator = StarGANDiscriminator(layers=layers)(spec)
        images = torch.empty(2, 3, size, size)
        assert generator(images, torch.zeros(2, dtype=torch.int64)).shape == images.shape
        scores, logits = discriminator(images)
    assert (scores.shape, logits.shape) == ((2, 1), (2, 1, 5))
    if size == 128:  # 53.2 million in the paper's section 5.4, of both networks, with as many layers
        assert 52.5e6 < count(generator) + count(discriminator) < 53.9e6


def test_the_generator_is_told_the_domain_and_its_images_are_in_range() -> None:
    network = StarGANGenerator(width=6, blocks=1, nets=OneForAll())(SPEC)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)

    def ask(domain: int) -> Tensor:
        with torch.no_grad():
            return network(images, torch.full((2,), domain))

    assert not torch.allclose(ask(0), ask(1), atol=1e-3)
    assert float(ask(0).abs().max()) <= 1


def test_sizes_that_strides_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.halvings: found 2.* 4 does not divide 18×18"):
        StarGANGenerator(nets=OneForAll())(Spec(4, 3, 18, 18))
    with pytest.raises(ConfigError, match=r"layers: found 5.* 32 does not divide 16×16"):
        StarGANDiscriminator(layers=5)(SPEC)

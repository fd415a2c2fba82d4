"""GGDR against straight-line accounts: the cosine by loops, the decoder and a step written out."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.adversarial_steps import SIZE, Account, Shown, Weights, logistic, step_once
from paribus.conformance.trainings import workbench
from paribus.core.errors import ConfigError
from paribus.core.streams import permutation
from paribus.recipe.smoke import build_small
from paribus.techniques.ggdr import Decoder, guidance_loss

PENALTY = "method.penalties.ggdr"
NO_R1 = "method.penalties.r1=null"
Over = Literal["channels", "places", "all"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = [math.sqrt(sum(float(x) ** 2 for x in values)) for values in (one, other)]
    return sum(float(x) * float(y) for x, y in zip(one, other, strict=True)) / (lengths[0] * lengths[1])


def distance_by_loop(guessed: np.ndarray, maps: np.ndarray, over: Over = "channels") -> float:
    n, channels, height, width = guessed.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    found = {
        "channels": lambda i: [cosine(guessed[i, :, y, x], maps[i, :, y, x]) for y, x in places],
        "places": lambda i: [cosine(guessed[i, k].ravel(), maps[i, k].ravel()) for k in range(channels)],
        "all": lambda i: [cosine(guessed[i].ravel(), maps[i].ravel())],
    }[over]
    return sum(1 - np.mean(found(i)) for i in range(n)) / n


def test_the_loss_is_one_minus_the_mean_cosine_over_channels() -> None:
    guessed, maps = draw(3, 5, 2, 4), draw(3, 5, 2, 4, seed=1) + 0.5
    ours = float(guidance_loss(guessed, maps))
    assert ours == pytest.approx(distance_by_loop(guessed.numpy(), maps.numpy()), rel=1e-12)
    for over in ("places", "all"):
        assert abs(ours - distance_by_loop(guessed.numpy(), maps.numpy(), over)) > 1e-3, f"negative control: {over}"
    assert float(guidance_loss(3 * maps, maps)) == pytest.approx(0, abs=1e-12), "lengths do not count"


def test_maps_that_are_zero_somewhere_have_finite_gradients() -> None:
    guessed, maps = draw(2, 3, 2, 2).requires_grad_(), draw(2, 3, 2, 2, seed=1)
    maps[:, :, 0, 0] = 0
    (slope,) = torch.autograd.grad(guidance_loss(guessed, maps), guessed)
    assert torch.isfinite(slope).all()
    assert slope[:, :, 1].any()


def decode_written(weights: Weights, small: Tensor, large: Tensor) -> Tensor:
    """The decoder of two sizes: the smaller maps, doubled, beside the larger."""
    made = F.conv2d(small, weights["convolutions.0.weight"], weights["convolutions.0.bias"], padding=1)
    made = torch.where(made > 0, made, 0.1 * made)
    made = made.repeat_interleave(2, 2).repeat_interleave(2, 3)
    made = F.conv2d(
        torch.cat((made, large), 1), weights["convolutions.1.weight"], weights["convolutions.1.bias"], padding=1
    )
    made = torch.where(made > 0, made, 0.1 * made)
    return torch.einsum("oc,nchw->nohw", weights["last.weight"][:, :, 0, 0], made) + weights["last.bias"].view(-1, 1, 1)


def test_the_decoder_is_a_u_net_from_the_last_maps_of_each_size_to_the_wanted_one() -> None:
    torch.manual_seed(0)
    # of residual discriminators several blocks have one size
    maps = [draw(2, c, s, s, seed=s + c) for c, s in ((2, 16), (3, 8), (4, 4), (5, 4))]
    decoder = Decoder(maps, (8, 8), 7).double()
    weights = dict(decoder.named_parameters())
    assert torch.allclose(decoder(maps), decode_written(weights, maps[3], maps[1]), rtol=1e-10)
    assert not torch.allclose(decoder([*maps[:3], maps[3].flip(1)]), decoder(maps))
    assert Decoder(maps, (4, 4), 7).double()(maps).shape == (2, 7, 4, 4)
    with pytest.raises(ConfigError, match=r"32×32, and the discriminator has 16×16, 8×8, 4×4"):
        Decoder(maps, (32, 32), 7)


def guidance_term(network: nn.Module, weights: Weights, shown: Shown, maps: Tensor, over: Over = "channels") -> Tensor:
    """1 − mean cosine, with the decoder of the discriminator written out."""
    large, small = torch.func.functional_call(network, weights, (shown.fake, shown.classes)).maps
    own = {k.removeprefix("ggdr."): w for k, w in weights.items() if k.startswith("ggdr.")}
    guessed = decode_written(own, small, large)
    axes = {"channels": (1,), "places": (2, 3), "all": (1, 2, 3)}[over]
    lengths = guessed.square().sum(axes).sqrt() * maps.square().sum(axes).sqrt()
    products = (guessed * maps).sum(axes)
    # maps behind ReLU: a cosine is 0 where one of the two is
    return 1 - torch.where(lengths > 0, products / lengths.clamp(min=1e-30), 0.0).mean()


def written_out(weight: float, over: Over = "channels", others: list[int] | None = None, real: bool = False) -> Account:
    """others: whose maps are asked for. real: at real images instead."""

    def account(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
        shown = shown._replace(fake=shown.fake.detach())
        maps = shown.maps[1].detach()[others or list(range(SIZE))]  # of 6×6, half of the image
        seen = shown._replace(fake=shown.real) if real else shown
        return logistic(network, weights, shown) + weight * guidance_term(network, weights, seen, maps, over)

    return account


def random_others() -> list[int]:
    circle = permutation(0, "ggdr.other", 0, SIZE, torch.device("cpu")).tolist()
    return [circle[(circle.index(i) + 1) % SIZE] for i in range(SIZE)]


def test_one_step_is_the_one_written_out_and_the_generators_is_as_without() -> None:
    generator, discriminator = step_once(written_out(3.0), NO_R1, f"{PENALTY}.weight=3.0", techniques=("ggdr",))
    assert generator < 1e-9
    assert discriminator < 1e-9


def test_a_step_with_another_images_maps_is_the_one_written_out() -> None:
    others = random_others()
    assert all(i != j for i, j in enumerate(others))
    assert sorted(others) == list(range(SIZE))
    settings = (NO_R1, f"{PENALTY}.weight=3.0", f"{PENALTY}.target=random")
    assert max(step_once(written_out(3.0, others=others), *settings, techniques=("ggdr",))) < 1e-9
    assert step_once(written_out(3.0), *settings, techniques=("ggdr",))[1] > 1e-5, "negative control: its own maps"


@pytest.mark.parametrize(
    "account",
    [written_out(3.0, "places"), written_out(3.0, "all"), written_out(3.0, real=True), written_out(3.1)],
    ids=["over places", "over all", "at real images", "another weight"],
)
def test_negative_control_another_discriminator_loss_is_seen(account: Account) -> None:
    assert step_once(account, NO_R1, f"{PENALTY}.weight=3.0", techniques=("ggdr",))[1] > 1e-5


def test_negative_control_a_gradient_into_the_generator_is_seen() -> None:
    def of_generator(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
        return 3.0 * guidance_term(network, weights, shown, shown.maps[1])

    settings = (NO_R1, f"{PENALTY}.weight=3.0")
    generator, _ = step_once(written_out(3.0), *settings, techniques=("ggdr",), of_generator=of_generator)
    assert generator > 1e-5


def test_the_discriminator_starts_as_without_and_its_decoder_is_an_added_part() -> None:
    plain, guided = (
        workbench(build_small(("experiment=smoke_images",), techniques))[1].parts()["discriminator"]  # type: ignore
        for techniques in ((), ("ggdr",))
    )
    assert guided.network.added_parts == ("ggdr",)
    ours, theirs = guided.network.state_dict(), plain.network.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert {name.partition(".")[0] for name in ours.keys() - theirs.keys()} == {"ggdr"}


def test_sizes_that_one_of_the_networks_lacks_are_refused_with_those_there_are() -> None:
    for reduction, found in ((3, "4×4, and the generator has 3×3, 6×6"), (12, "1×1, and the generator has 3×3, 6×6")):
        recipe = build_small(("experiment=smoke_images", f"{PENALTY}.reduction={reduction}"), ("ggdr",))
        with pytest.raises(ConfigError, match=rf"method.penalties.ggdr.reduction: asks for maps of {found}"):
            workbench(recipe)
    shallow = ("experiment=smoke_images", "method.discriminator.widths=[4]")
    workbench(build_small(shallow, ("ggdr",)))
    recipe = build_small((*shallow, f"{PENALTY}.reduction=4"), ("ggdr",))
    with pytest.raises(ConfigError, match=r"maps of 3×3, and the discriminator has 6×6"):
        workbench(recipe)


def test_a_recipe_without_a_discriminator_is_refused_with_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"technique=ggdr does not fit.*method=adversarial"):
        build_small(("experiment=smoke",), ("ggdr",))

"""FSMR against straight-line accounts: statistics and mixing by loops, a judgement and a step written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.adversarial_steps import SIZE, Account, Shown, Weights, logistic, step_once
from paribus.conformance.trainings import workbench
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import permutation, uniform
from paribus.models.dcgan import DCGANDiscriminatorNet
from paribus.recipe.smoke import build_small
from paribus.techniques.fsmr import choose_statistics, measure_statistics, mix_statistics

MixLayer = Callable[[Tensor, int], Tensor]
PENALTY = "method.penalties.fsmr"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(channel: np.ndarray, unbiased: bool = False) -> tuple[float, float]:
    values = [float(x) for x in channel.ravel()]
    mean = sum(values) / len(values)
    variance = sum((x - mean) ** 2 for x in values) / (len(values) - unbiased)
    return mean, math.sqrt(variance + 1e-5)


def mix_by_loop(maps: np.ndarray, partners: list[list[int]], alphas: list[float], unbiased: bool = False) -> np.ndarray:
    """The paper's formula, a value at a time. partners: of each image and channel. alphas: of each image."""
    mixed = np.empty_like(maps)
    for i, image in enumerate(maps):
        for k, channel in enumerate(image):
            (mean, deviation), alpha = moments(channel, unbiased), alphas[i]
            mean_y, deviation_y = moments(maps[partners[i][k]][k], unbiased)
            for place, x in np.ndenumerate(channel):
                styled = deviation_y * (x - mean) / deviation + mean_y
                mixed[(i, k, *place)] = alpha * x + (1 - alpha) * styled
    return mixed


ORDER = torch.tensor([2, 0, 3, 1, 4])


@pytest.mark.parametrize("partner", ["shuffled", "by_channel", "itself"])
@pytest.mark.parametrize("scale", [3.0, 0.003], ids=["values far above ε", "values like ε"])
def test_mixing_is_the_formula_at_every_value(partner: Any, scale: float) -> None:
    maps, alpha = scale * (draw(5, 4, 3, 2) + 0.3), 0.3
    own = measure_statistics(maps)
    other = choose_statistics(own, partner, ORDER, torch.arange(5))
    ours = mix_statistics(maps, own, other, torch.tensor(alpha, dtype=torch.float64)).numpy()
    circle = ORDER.tolist()
    partners = {
        "shuffled": [[circle[i]] * 4 for i in range(5)],
        "by_channel": [[circle[(circle.index(i) + 1 + k) % 5] for k in range(4)] for i in range(5)],
        "itself": [[i] * 4 for i in range(5)],
    }[partner]

    def off(rows: list[list[int]], alphas: list[float], unbiased: bool = False) -> float:
        return np.abs(ours - mix_by_loop(maps.numpy(), rows, alphas, unbiased)).max() / scale

    assert off(partners, [alpha] * 5) < 1e-12
    if partner != "itself":
        assert off(partners, [0.4, 0.3, 0.3, 0.3, 0.3]) > 1e-3, "negative control: another α for one image"
        assert off(partners[-1:] + partners[:-1], [alpha] * 5) > 1e-3, "negative control: other partners"
        # of two deviations only the ratio counts, so dividing by n − 1 shows beside ε alone
        assert (off(partners, [alpha] * 5, unbiased=True) > 1e-3) == (scale < 1), "negative control: unbiased variance"


def test_by_channel_takes_every_image_once_in_each_channel_and_never_its_own() -> None:
    everyone = torch.arange(8.0)[:, None, None].expand(8, 2, 7)
    order = permutation(3, "any", 0, 8, torch.device("cpu"))
    taken = choose_statistics(everyone, "by_channel", order, torch.arange(8))[:, 0]
    assert (taken.sort(0).values == torch.arange(8.0)[:, None]).all()
    assert (taken != torch.arange(8.0)[:, None]).all()
    assert all(len(set(row.tolist())) == 7 for row in taken), "no image gives two channels, where there are enough"


def test_a_process_takes_the_rows_of_its_part_from_all_of_the_batch() -> None:
    everyone, positions = draw(6, 2, 3), torch.tensor([4, 5])
    order = permutation(0, "any", 0, 6, torch.device("cpu"))
    for partner in ("shuffled", "by_channel", "itself"):
        whole = choose_statistics(everyone, partner, order, torch.arange(6))
        assert torch.equal(choose_statistics(everyone, partner, order, positions), whole[4:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_with_its_own_statistics_an_image_stays_as_it_is_to_the_bit(dtype: torch.dtype) -> None:
    maps = (5 * draw(4, 8, 6, 6) - 2).to(dtype)
    own = measure_statistics(maps)
    for share in uniform(0, "any", 0, torch.arange(50), 1)[:, 0].to(own.dtype):
        assert torch.equal(mix_statistics(maps, own, own, share), maps)
    assert not torch.equal(mix_statistics(maps, own, own.flip(0), torch.tensor(0.5, dtype=own.dtype)), maps)


def judge_written(weights: Weights, images: Tensor, classes: Tensor, mix: MixLayer) -> Tensor:
    """DCGAN's discriminator with two stages and projected classes, layer by layer."""
    maps = images
    for layer in range(4):
        weight, bias = (weights[f"convolutions.{layer}.{kind}"] for kind in ("weight", "bias"))
        maps = mix(F.conv2d(maps, weight, bias, stride=1 + layer % 2, padding=1), layer)
        maps = torch.where(maps > 0, maps, 0.1 * maps)
    features = maps.flatten(1)
    plain = features @ weights["score.weight"][0] + weights["score.bias"]
    return plain + (features * (classes @ weights["embedding.weight"].T)).sum(1)


def mix_written(orders: list[list[int]], alphas: list[float]) -> MixLayer:
    """orders: of each layer. alphas: of each image."""

    def normal_form(channel: Tensor) -> tuple[Tensor, Tensor]:
        mean = channel.mean()
        return mean, ((channel - mean).square().sum() / channel.numel() + 1e-5).sqrt()

    def mix(maps: Tensor, layer: int) -> Tensor:
        rows = []
        for i, image in enumerate(maps):
            channels = []
            for k, channel in enumerate(image):
                (mean, deviation), alpha = normal_form(channel), alphas[i]
                mean_y, deviation_y = normal_form(maps[orders[layer][i], k])
                styled = deviation_y * (channel - mean) / deviation + mean_y
                channels.append(alpha * channel + (1 - alpha) * styled)
            rows.append(torch.stack(channels))
        return torch.stack(rows)

    return mix


def written_order(step: int = 0) -> list[int]:
    return permutation(0, "fsmr.partner", step, SIZE, torch.device("cpu")).tolist()


def share_of(pass_of: int) -> float:
    return float(uniform(0, "fsmr.share", 0, torch.tensor([pass_of]), 1))


def test_the_discriminator_mixes_behind_each_convolution() -> None:
    torch.manual_seed(0)
    network = DCGANDiscriminatorNet(Spec(10, 3, 12, 12), (4, 6), spectral=False, conditional=True).double()
    weights = {k: 20 * p.detach() for k, p in network.named_parameters()}
    images, classes = draw(SIZE, 3, 12, 12), F.one_hot(torch.arange(SIZE), 10).double()
    order = torch.tensor(written_order())

    def change(maps: Tensor, layer: int) -> Tensor:
        own = measure_statistics(maps)
        return mix_statistics(maps, own, own[order], torch.tensor(0.4, dtype=torch.float64))

    ours = torch.func.functional_call(network, weights, (images, classes, change)).scores
    written = judge_written(weights, images, classes, mix_written([order.tolist()] * 4, [0.4] * SIZE))
    assert torch.allclose(ours, written, rtol=1e-10)
    assert not torch.allclose(ours, judge_written(weights, images, classes, lambda maps, _: maps), rtol=1e-3)


def written_out(
    weight: float,
    fakes: bool = False,
    orders: list[list[int]] | None = None,
    alphas: list[float] | None = None,
) -> Account:
    def account(network: nn.Module, weights: Weights, shown: Shown) -> Tensor:
        loss = logistic(network, weights, shown)
        for k, images in enumerate((shown.real, shown.fake.detach())[: 1 + fakes]):
            mix = mix_written(orders or [written_order()] * 4, alphas or [share_of(k)] * SIZE)
            apart = judge_written(weights, images, shown.classes, lambda maps, _: maps) - judge_written(
                weights, images, shown.classes, mix
            )
            loss = loss + weight * sum(x**2 for x in apart) / SIZE
        return loss

    return account


NO_R1 = "method.penalties.r1=null"


@pytest.mark.parametrize("fakes", [False, True])
def test_one_step_is_the_one_written_out(fakes: bool) -> None:
    settings = (NO_R1, f"{PENALTY}.weight=0.7", f"{PENALTY}.fakes={str(fakes).lower()}")
    assert max(step_once(written_out(0.7, fakes), *settings, techniques=("fsmr",))) < 1e-10


@pytest.mark.parametrize(
    "wrong",
    [
        {"orders": [written_order(step) for step in range(4)]},
        {"alphas": uniform(0, "fsmr.share", 0, torch.arange(SIZE), 1)[:, 0].tolist()},
        {"fakes": True},
    ],
    ids=["a shuffle a layer", "an α for each image", "fakes too"],
)
def test_negative_control_another_rule_is_seen(wrong: dict[str, Any]) -> None:
    account = written_out(0.7, **wrong)
    assert step_once(account, NO_R1, f"{PENALTY}.weight=0.7", techniques=("fsmr",))[1] > 1e-6


def train_three_steps(techniques: tuple[str, ...], *overrides: str) -> tuple[list[Tensor], float]:
    """The weights, and FSMR's term in the last step."""
    recipe = build_small(("experiment=smoke_images", *overrides), techniques)
    data, method, _ = workbench(recipe)
    loader = data.loader(recipe.batch_size, 0)
    steps = [method.train_step(loader.batch(step), Progress(step, 10, 0)) for step in range(3)]
    return [p.detach() for p in method.parameters()], float(steps[-1].get("train/fsmr", 0))  # type: ignore[attr-defined]


def test_unmixed_statistics_are_plain_training_under_spectral_norm_too() -> None:
    """The control of the same loss: the second judgement is by the very weights of the first."""
    plain, _ = train_three_steps((), NO_R1)
    itself, term = train_three_steps(("fsmr",), NO_R1, f"{PENALTY}.partner=itself")
    assert term == 0
    assert all(torch.equal(p, q) for p, q in zip(plain, itself, strict=True))
    mixed, term = train_three_steps(("fsmr",), NO_R1)
    assert term > 0
    assert not all(torch.equal(p, q) for p, q in zip(plain, mixed, strict=True)), "negative control"


def test_beside_r1_they_are_so_to_rounding() -> None:
    """Gradients of zeros come first then, in another memory layout, and the sums that follow go in another order."""
    plain, _ = train_three_steps((), "update.precision=fp64")
    itself, term = train_three_steps(("fsmr",), "update.precision=fp64", f"{PENALTY}.partner=itself")
    assert term == 0
    assert all(torch.allclose(p, q, rtol=1e-9, atol=1e-12) for p, q in zip(plain, itself, strict=True))


def test_a_recipe_without_a_discriminator_is_refused_with_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"technique=fsmr does not fit.*method=adversarial"):
        build_small(("experiment=smoke",), ("fsmr",))

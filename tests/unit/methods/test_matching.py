"""Losses that match images and captions, by loops over numbers, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paribus.conformance.trainings import workbench
from paribus.core.build import build
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.streams import stream
from paribus.methods.matching import Contrastive, Triplet, contrastive_loss, triplet_loss
from paribus.recipe.smoke import build_small


def cosines(n: int = 6) -> Tensor:
    return 2 * torch.rand(n, n, dtype=torch.float64, generator=stream(0, "cosines")) - 1


def triplet_by_loop(c: np.ndarray, margin: float, hardest: bool) -> float:
    n, total = len(c), 0.0
    for i in range(n):
        texts = [max(0.0, margin - c[i, i] + c[i, k]) for k in range(n) if k != i]
        images = [max(0.0, margin - c[i, i] + c[k, i]) for k in range(n) if k != i]
        total += sum(max(x) if hardest else sum(x) / (n - 1) for x in (texts, images))
    return total / n


@pytest.mark.parametrize("negatives", ["all", "hardest"])
def test_triplets_are_those_of_the_loop(negatives: str) -> None:
    ours = float(triplet_loss(cosines(), 0.2, negatives))  # type: ignore[arg-type]
    both = {kind: triplet_by_loop(cosines().numpy(), 0.2, kind == "hardest") for kind in ("all", "hardest")}
    assert ours == pytest.approx(both.pop(negatives), rel=1e-12)
    assert abs(ours - next(iter(both.values()))) > 0.1, "negative control: the other choice differs"


def test_the_contrastive_loss_is_that_of_the_loop() -> None:
    c, temperature = cosines().numpy(), 0.3
    total = 0.0
    for i in range(len(c)):
        for row in (c[i], c[:, i]):
            total -= math.log(math.exp(row[i] / temperature) / sum(math.exp(x / temperature) for x in row))
    expected = total / (2 * len(c))
    found = contrastive_loss(cosines(), torch.tensor(temperature).double().log())
    assert float(found) == pytest.approx(expected, rel=1e-7)


def test_the_temperature_stops_at_a_hundredth() -> None:
    low = torch.tensor(-9.0, dtype=torch.float64, requires_grad=True)
    assert torch.equal(contrastive_loss(cosines(), low), contrastive_loss(cosines(), torch.tensor(0.01).double().log()))


def test_a_single_pair_has_no_loss_and_no_nan() -> None:
    one = torch.full((1, 1), 0.5, requires_grad=True)
    for loss in (triplet_loss(one, 0.2, "all"), triplet_loss(one, 0.2, "hardest"), contrastive_loss(one, one.mean())):
        assert float(loss.detach()) == 0
        loss.backward()
    assert torch.isfinite(one.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [(), ("objective=contrastive", "model.learns=temperature")])
def test_every_weight_gets_a_gradient(more: tuple[str, ...]) -> None:
    recipe = build_small(("experiment=smoke_captions", *more))
    data, method, _ = workbench(recipe)
    method.train_step(data.loader(recipe.batch_size, 0).batch(0), Progress(0, 10, 0))
    (part,) = method.parts().values()  # type: ignore[attr-defined]
    assert [k for k, p in part.network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    recipe = build_small(("experiment=smoke_captions", "objective=contrastive"))
    data, method, _ = workbench(recipe)
    batch, at = data.loader(8, 0).batch(0), Progress(0, 10, 0)
    with pytest.raises(ConfigError, match=r"model\.learns=temperature"):
        method.train_step(batch, at)
    with pytest.raises(ConfigError, match="data=shape_captions"):
        Triplet()(nn.Identity(), replace(batch, also={}), at)

    class Scores(nn.Module):
        def forward(self, inputs: Tensor, tokens: Tensor) -> Tensor:
            return inputs

    with pytest.raises(ConfigError, match="model=two_encoders"):
        Contrastive()(Scores(), batch, at)


def test_pcme_takes_the_objectives_place_and_refuses_other_networks() -> None:
    config = build_small(("experiment=smoke_captions",), ("pcme",)).config
    assert config["objective"]["_target_"] == "paribus.techniques.pcme.PCME"
    assert "margin" not in config["objective"]
    assert build(config["model"], "model").learns == "gaussians"
    with pytest.raises(ConfigError, match=r"technique=pcme does not fit.*model=two_encoders"):
        build_small(("experiment=smoke",), ("pcme",))
    data, method, _ = workbench(build_small(("experiment=smoke_captions", "model.learns=means"), ("pcme",)))
    batch = data.loader(8, 0).batch(0)
    with pytest.raises(ConfigError, match="learns=gaussians"):
        method.train_step(batch, Progress(0, 10, 0))

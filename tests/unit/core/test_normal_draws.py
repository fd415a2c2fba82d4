"""Normal numbers keyed by sample: their distribution, what they depend on, and that none is infinite."""

import math

import torch

from paribus.core.streams import normal


def test_they_are_standard_normal_and_belong_to_the_sample() -> None:
    ids = torch.arange(4000)
    noise = normal(3, "x", 1, ids, 20)
    assert noise.shape == (4000, 20)
    n = noise.numel()
    assert abs(float(noise.mean())) < 5 / math.sqrt(n)
    assert abs(float(noise.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((noise.abs() < 1).double().mean()) - 0.6827) < 0.01
    some = torch.tensor([17, 3])
    assert torch.equal(normal(3, "x", 1, some, 20), noise[some])
    for other in (normal(4, "x", 1, some, 20), normal(3, "x", 2, some, 20), normal(3, "y", 1, some, 20)):
        assert not torch.equal(other, noise[some])


def test_the_ends_of_the_uniform_numbers_stay_finite() -> None:
    ends = torch.tensor([0.0, 1 - 2.0**-24])  # the least and the largest that `uniform` gives
    assert torch.isfinite(torch.erfinv(2 * ends - 1 + 2.0**-24)).all()

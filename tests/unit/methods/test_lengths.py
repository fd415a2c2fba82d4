"""Lengths of weights, and how far a step turns them: against their definitions, and what they change (nothing)."""

import pytest
import torch
from torch import nn

from helpers.trainings import recipe_of, workbench
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.methods.lengths import copy_weights, find_convolution_weights, measure_lengths
from paribus.methods.supervised import SupervisedTraining


def test_the_mean_norm_and_the_mean_relative_step() -> None:
    before = [torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 10.0]]])]
    after = [torch.tensor([[[3.0, 5.0]]]), torch.tensor([[[6.0, 2.0]]])]
    found = measure_lengths(before, after)
    assert found["weights/norm"].item() == pytest.approx((5 + 10) / 2)
    assert found["weights/step"].item() == pytest.approx((1 / 5 + 10 / 10) / 2)


def test_lists_at_once_have_the_bits_of_one_tensor_after_the_other() -> None:
    draws = torch.Generator().manual_seed(0)
    weights = [
        nn.Parameter(torch.randn(shape, generator=draws)) for shape in ((64, 3, 7, 7), (5, 3, 1), (128, 64, 3, 3))
    ]
    weights[0].data = weights[0].data.to(memory_format=torch.channels_last)
    before = copy_weights(weights)
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=draws))
    found = measure_lengths(before, weights)
    norms = torch.stack([w.norm() for w in before])
    steps = torch.stack([(new.detach() - w).norm() for w, new in zip(before, weights, strict=True)])
    assert torch.equal(found["weights/norm"], norms.mean())
    assert torch.equal(found["weights/step"], (steps / norms).mean())


def test_only_convolutions_are_watched() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert [id(weight) for weight in find_convolution_weights(net)] == [id(net[0].weight)]
    with pytest.raises(ConfigError, match="this network has none"):
        find_convolution_weights(nn.Linear(4, 2))


def test_watching_changes_no_bit_and_sees_the_steps_that_were_taken() -> None:
    weights, seen = [], {}
    for method in ("supervised", "lengths"):
        recipe = recipe_of("experiment=smoke", "optimizer=adamw", f"method={method}", techniques=("adamp",))
        data, training, _ = workbench(recipe)
        assert isinstance(training, SupervisedTraining)
        loader = data.loader(recipe.batch_size, recipe.seed)
        for step in range(3):
            was = [weight.detach().clone() for weight in find_convolution_weights(training.model)]
            seen = training.train_step(loader.batch(step), Progress(step, 3, 0, loader.steps_per_epoch))
            now = [weight.detach() for weight in find_convolution_weights(training.model)]
            turned = [float((b - a).norm() / a.norm()) for a, b in zip(was, now, strict=True)]
        weights.append([p.detach() for p in training.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert float(seen["weights/step"]) == pytest.approx(sum(turned) / len(turned), rel=1e-6)

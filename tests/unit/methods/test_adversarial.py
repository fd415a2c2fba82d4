"""Adversarial training: what it refuses, what it samples, what a checkpoint keeps."""

import pytest
import torch

from paribus.conformance.trainings import workbench
from paribus.core.capabilities import Samples, list_networks
from paribus.core.errors import ConfigError
from paribus.core.pixels import to_pixels
from paribus.core.progress import Progress
from paribus.methods.discriminator_penalties import R1
from paribus.recipe.smoke import build_small

SMOKE = ("experiment=smoke_images", "batch_size=8")
CONDITIONAL = ("model.conditional=true", "method.discriminator.conditional=true")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("model._target_=paribus.models.convnet.ConvNet", "~model.latent", "~model.conditional"),
            r"model: found PlainNet, which generates no images; .*model=dcgan",
        ),
        (("model.conditional=true",), r"model, method.discriminator: .*found 10 and 0\).*`conditional` of both"),
        (
            (
                "method.discriminator._target_=paribus.models.convnet.ConvNet",
                "~method.discriminator.spectral",
                "~method.discriminator.conditional",
            ),
            r"method.discriminator: found PlainNet, which is no discriminator",
        ),
        (("objective=bce",), r"objective: found BinaryCrossEntropy; method=adversarial has losses of its own"),
        (("update.accumulate=2",), r"update.accumulate: found 2; Adversarial takes a batch whole"),
        (("method.loss._target_=paribus.methods.objectives.CrossEntropy",), r"method.loss: "),
        (("method.penalties.r1._target_=paribus.methods.adversarial_losses.Hinge",), r"method.penalties"),
        (
            ("+transforms.cutmix._target_=paribus.techniques.cutmix.CutMix",),
            r"transforms: found CutMix; method=adversarial",
        ),
        (
            ("method.loss._target_=paribus.methods.adversarial_losses.Wasserstein", "method.penalties.r1=null"),
            r"method.penalties: found none; Wasserstein's discriminator",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        workbench(build_small((*SMOKE, *overrides)))


@pytest.mark.parametrize(
    ("given", "told"), [(torch.zeros(8), r"a tensor of shape \(8,\)"), (0.5, "it gave float; should be a tensor")]
)
def test_a_penalty_that_is_no_number_is_told_by_its_name(
    given: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(R1, "__call__", lambda *_: given)
    data, method, _ = workbench(build_small(SMOKE))
    with pytest.raises(ConfigError, match=rf"method.penalties.r1: .*{told}"):
        method.train_step(data.loader(8, 0).batch(0), Progress(0, 10, 0))


@pytest.mark.parametrize("more", [(), CONDITIONAL])
def test_an_image_is_a_function_of_seed_id_and_class_alone(more: tuple[str, ...]) -> None:
    data, method, _ = workbench(build_small((*SMOKE, "update.precision=fp64", *more)))
    assert isinstance(method, Samples)
    method.train_step(data.loader(8, 0).batch(0), Progress(0, 10, 0))
    method.prepare_eval()
    made = method.sample(torch.arange(12), 3)
    assert made.shape == (12, 3, 12, 12)
    assert torch.allclose(method.sample(torch.tensor([5, 2]), 3), made[[5, 2]], rtol=0, atol=1e-12)
    assert not torch.allclose(method.sample(torch.arange(12), 4), made)
    pixels = to_pixels(made, data.mean, data.std)
    assert pixels.min() >= -1e-9
    assert pixels.max() <= 1 + 1e-9
    if more:
        classes = torch.arange(12) % 10
        assert torch.equal(method.sample(torch.arange(12), 3, classes), made)
        assert not torch.allclose(method.sample(torch.arange(12), 3, classes.roll(1)), made)
    else:
        with pytest.raises(ValueError, match="does not know classes"):
            method.sample(torch.arange(12), 3, torch.zeros(12, dtype=torch.int64))


def test_the_average_is_what_is_sampled_and_moves_with_the_generators_steps() -> None:
    data, method, _ = workbench(build_small((*SMOKE, "ema.decay=0.9", "method.generator_every=2")))
    loader = data.loader(8, 0)
    method.train_step(loader.batch(0), Progress(0, 10, 0))
    average = [weight.clone() for weight in method.eval_model.parameters()]  # type: ignore[attr-defined]
    method.train_step(loader.batch(1), Progress(1, 10, 0))
    assert all(map(torch.equal, average, method.eval_model.parameters()))  # type: ignore[attr-defined]
    assert method.eval_model is not list_networks(method)[""]  # type: ignore[attr-defined]
    latest = method.without_ema.sample(torch.arange(3), 0)  # type: ignore[attr-defined]
    assert not torch.equal(latest, method.sample(torch.arange(3), 0))  # type: ignore[attr-defined]
    assert workbench(build_small(SMOKE))[1].without_ema is None  # type: ignore[attr-defined]
    other = workbench(build_small((*SMOKE, "ema.decay=0.9", "seed=1")))[1]
    other.load_state_dict(method.state_dict())
    for one in (method, other):
        one.prepare_eval()
    ids = torch.arange(3)
    assert torch.equal(method.sample(ids, 0), other.sample(ids, 0))  # type: ignore[attr-defined]

"""CALM as a method: one step written out, plain epochs that are plain training, starts, what it refuses, its maps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import paribus
from helpers.trainings import recipe_of, trained, workbench
from helpers.written_steps import PLAIN_SGD, RATE, descend
from paribus.core.capabilities import class_activation_maps
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.interop.graphs import write_pt2
from paribus.methods.evaluated import PlainNetwork
from paribus.models.convnet import ConvNet
from paribus.recipe.smoke import build_small
from paribus.runs.export import export_run
from paribus.runs.saved_run import load_saved_run
from paribus.techniques.calm import CalmModel, CalmNetwork


def written_out(network: CalmNetwork, weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """−log p(y | x) in plain probabilities, without this module's functions."""
    inner = {k.removeprefix("network."): w for k, w in weights.items() if k.startswith("network.")}
    plain = network.network
    features = torch.func.functional_call(
        plain.features,  # type: ignore[arg-type]
        {k.removeprefix("features."): w for k, w in inner.items() if k.startswith("features.")},
        (inputs,),
    )
    maps = torch.einsum("ndhw,kd->nkhw", features, inner["head.weight"]) + inner["head.bias"][:, None, None]
    a = (features * weights["attention.weight"][0]).sum(1) + weights["attention.bias"]
    p = maps.softmax(1) * (a.relu() / a.relu().sum((1, 2), keepdim=True))[:, None]
    return -p.sum((2, 3))[torch.arange(len(targets)), targets].log().mean()


def step_apart(*overrides: str, loss_of: object = written_out) -> list[float]:
    recipe = build_small((*PLAIN_SGD, *overrides), ("calm",))
    data, method, _ = workbench(recipe)
    batch = data.loader(recipe.batch_size, 0).batch(0)
    network = method.model  # type: ignore[attr-defined]
    with torch.no_grad():  # away from the even start, so that the attention has a say
        network.attention.weight += torch.randn(
            network.attention.weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
    weights = {k: p.detach().clone().requires_grad_() for k, p in network.named_parameters()}
    followed = descend(weights, loss_of(network, weights, batch.inputs, batch.targets))  # type: ignore[operator]
    method.train_step(batch, Progress(0, 10, 0))
    return [float((p.detach() - followed[k]).abs().max()) for k, p in network.named_parameters()]


@pytest.mark.parametrize("train_by", ["em", "ml"])
def test_one_step_is_the_one_written_out(train_by: str) -> None:
    assert max(step_apart(f"method.train_by={train_by}")) < 1e-12
    assert RATE == 0.1


def test_negative_control_a_constant_denominator_takes_another_step() -> None:
    assert max(step_apart("method.detach=true")) > 1e-4


def test_plain_epochs_are_plain_training_to_the_bit_and_then_the_attention_learns(tmp_path: Path) -> None:
    short = ("experiment=smoke", "steps=16ba", "schedule=constant", "every.checkpoint=16ba")  # two epochs
    plain = trained(tmp_path / "plain", *short)
    both = trained(tmp_path / "both", *short, "method.plain_epochs=2", techniques=("calm",))
    calm = trained(tmp_path / "calm", *short, "method.plain_epochs=1", techniques=("calm",))
    for name, weight in plain.weights.items():
        assert torch.equal(weight, both.weights[f"network.{name}"]), name
    assert not torch.equal(plain.weights["head.weight"], calm.weights["network.head.weight"])
    assert not both.weights["attention.weight"].any()
    assert calm.weights["attention.weight"].any()


def test_it_starts_from_a_plain_run_with_its_classifier_and_from_itself(tmp_path: Path) -> None:
    short = ("experiment=smoke", "steps=4ba")
    plain = trained(tmp_path / "plain", *short)
    recipe = build_small((*short, f"init_from={plain.folder}"), ("calm",))
    started = workbench(recipe)[1].model  # type: ignore[attr-defined]
    for name, weight in plain.weights.items():
        assert torch.equal(weight, started.state_dict()[f"network.{name}"])
    assert torch.equal(started.attention.bias, torch.ones(1))
    calm = trained(tmp_path / "calm", *short, f"init_from={plain.folder}", techniques=("calm",))
    again = workbench(build_small((*short, f"init_from={calm.folder}", "seed=3"), ("calm",)))[1].model  # type: ignore[attr-defined]
    assert all(torch.equal(w, calm.weights[k]) for k, w in again.state_dict().items())
    assert calm.weights["attention.weight"].any()
    wider = build_small((*short, f"init_from={plain.folder}", "model.widths=[8,8]"), ("calm",))
    with pytest.raises(ConfigError, match="does not fit model"):
        workbench(wider)


def network(widths: tuple[int, ...] = (4, 6)) -> CalmNetwork:
    with use_generator(stream(0, "net")):
        made = CalmModel(network=ConvNet(widths=widths, norm="none"))(Spec(3, 1, 8, 8))
        nn.init.normal_(made.attention.weight)
    return made.eval()


def images() -> Tensor:
    return torch.randn(5, 1, 8, 8, generator=stream(0, "images"))


def test_its_map_is_the_joint_probability_and_sums_to_the_prediction() -> None:
    net, inputs = network(), images()
    scores, maps = class_activation_maps(net, inputs)
    assert maps.shape == (5, 4, 4)
    assert torch.allclose(maps.sum((1, 2)), scores.amax(1).exp(), rtol=1e-5)
    assert torch.allclose(scores.exp().sum(1), torch.ones(5), rtol=1e-5)
    _, of_first = class_activation_maps(net, inputs, torch.zeros(5, dtype=torch.int64))
    assert torch.allclose(of_first.sum((1, 2)), scores[:, 0].exp(), rtol=1e-5)
    assert torch.equal(PlainNetwork(net).predict(inputs), scores)


def test_negative_control_the_plain_map_is_another() -> None:
    net, inputs = network(), images()
    plain = class_activation_maps(net.network, inputs).maps
    assert not torch.allclose(class_activation_maps(net, inputs).maps, plain, atol=0.05)


def test_dead_attention_in_a_network_gives_finite_scores_and_steps() -> None:
    net = network()
    with torch.no_grad():
        net.attention.bias.fill_(-1e6)
    scores = net(images())
    assert bool(torch.isfinite(scores).all())
    loss = -net.train()(images()).joint.flatten(2).logsumexp(2).mean()
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)
    assert F.relu(net.attention.bias) == 0


def test_mixed_targets_weigh_the_classes_losses() -> None:
    data, method, _ = workbench(recipe_of("experiment=smoke", techniques=("calm",)))
    objective, at = method._slots.objective, Progress(0, 10, 0)  # type: ignore[attr-defined]
    batch = data.loader(8, 0).batch(0)

    def loss(targets: Tensor) -> float:
        return float(objective(method.model.train(), replace(batch, targets=targets), at)[0].detach())  # type: ignore[attr-defined]

    one, other = batch.targets, (batch.targets + 1) % 10
    hot = [F.one_hot(t, 10).float() for t in (one, other)]
    assert loss(0.25 * hot[0] + 0.75 * hot[1]) == pytest.approx(0.25 * loss(one) + 0.75 * loss(other), rel=1e-5)


def test_what_does_not_fit_is_refused_before_a_step() -> None:
    for overrides, words in (
        (("model.dropout=0.1",), "does not end in a global average pool"),
        (("objective.smoothing=0.1",), "has a loss of its own"),
    ):
        with pytest.raises(ConfigError, match=words):
            workbench(recipe_of("experiment=smoke", *overrides, techniques=("calm",)))
    with pytest.raises(ConfigError, match="does not end in a global average pool"):
        workbench(recipe_of("experiment=smoke_vit", techniques=("calm",)))


def test_an_export_is_the_network_with_its_maps(tmp_path: Path) -> None:
    run = trained(tmp_path / "runs", "experiment=smoke", "steps=4ba", techniques=("calm",))
    target, _ = export_run(load_saved_run(run.folder, [], ()), tmp_path / "net.safetensors")
    loaded = paribus.load(target)
    inputs = torch.randn(3, 3, 12, 12, generator=stream(0, "x"))
    assert all(torch.equal(w, run.weights[k]) for k, w in loaded.state_dict().items())
    with torch.no_grad():
        scores = loaded(inputs)
    assert torch.allclose(scores.exp().sum(1), torch.ones(3), rtol=1e-5)
    assert loaded.attribute(inputs, scores.argmax(1)).shape == (3, 6, 6)
    assert all(torch.equal(w, run.weights[k]) for k, w in paribus.Run(run.folder).load().state_dict().items())
    graph = torch.export.load(write_pt2(loaded, tmp_path / "net.pt2")).module()
    assert torch.allclose(graph(inputs), scores, rtol=1e-5, atol=1e-5)

"""StarGAN and its counterpart against a step written out: networks, losses, gradient penalty and updates, in float64,
image by image and, of several networks, each on the images of its own two domains."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paribus.conformance.trainings import workbench
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.core.streams import uniform
from paribus.recipe.smoke import build_small

RATE, SIZE, DOMAINS = 0.02, 8, 3
SGD = (
    "experiment=smoke_translation",
    "optimizer=sgd",
    f"optimizer.lr={RATE}",
    "optimizer.momentum=0",
    "optimizer.nesterov=false",
    "optimizer.weight_decay=0",
    "update.precision=fp64",
    f"batch_size={SIZE}",
    "model.width=3",
    "method.discriminator.width=3",
)
ONE, PAIRS = ("stargan",), ()
Weights = dict[str, Tensor]


def translate(w: Weights, image: Tensor, domain: Tensor) -> Tensor:
    """One image, (3, h, w), by the generator's weights; table 4 of the paper at one residual block."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        scale, shift = (w[f"layers.{name}.{k}"].view(1, -1, 1, 1) for k in ("weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = torch.cat((image, domain[:, None, None].expand(-1, *image.shape[1:])))[None]
    x = norm(F.conv2d(x, w["layers.0.weight"], padding=3), "1").relu()
    for conv, after in (("3", "4"), ("6", "7")):
        x = norm(F.conv2d(x, w[f"layers.{conv}.weight"], stride=2, padding=1), after).relu()
    inner = norm(F.conv2d(x, w["layers.9.layers.0.weight"], padding=1), "9.layers.1").relu()
    x = x + norm(F.conv2d(inner, w["layers.9.layers.3.weight"], padding=1), "9.layers.4")
    for conv, after in (("10", "11"), ("13", "14")):
        x = norm(F.conv_transpose2d(x, w[f"layers.{conv}.weight"], stride=2, padding=1), after).relu()
    return F.conv2d(x, w["layers.16.weight"], padding=3).tanh()[0]


def judge(w: Weights, image: Tensor) -> tuple[Tensor, Tensor]:
    """The score, a scalar, and (domains,) logits; table 5 at three layers."""
    x = image[None]
    for k in ("0", "2", "4"):
        x = F.conv2d(x, w[f"layers.{k}.weight"], w[f"layers.{k}.bias"], stride=2, padding=1)
        x = torch.where(x > 0, x, 0.01 * x)
    return F.conv2d(x, w["source.weight"], padding=1).mean(), F.conv2d(x, w["domain.weight"]).flatten()


class Step(NamedTuple):
    """What one network of a division is given. rows: its images. images: of the whole batch, −1 to 1. sources, targets:
    of those rows, among the network's own domains. shares: ε of the whole batch."""

    rows: list[int]
    images: Tensor
    sources: list[int]
    targets: list[int]
    shares: Tensor


def hot(k: int, count: int) -> Tensor:
    return F.one_hot(torch.tensor(k), count).double()


def discriminator_loss(
    step: Step, d: Weights, fakes: list[Tensor], penalty: float = 10.0, at: Callable[[float], float] = lambda e: e
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, (row, source) in enumerate(zip(step.rows, step.sources, strict=True)):
        real, fake, eps = step.images[row], fakes[i], at(float(step.shares[row]))
        score, logits = judge(d, real)
        between = (eps * real + (1 - eps) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(judge(d, between)[0], between, create_graph=True)
        steepness = ((slope.square().sum() + 1e-12).sqrt() - 1) ** 2  # the root of ours has a slope at 0 as well
        total = total + judge(d, fake)[0] - score + penalty * steepness - logits.log_softmax(0)[source]
    return total / len(step.rows)


def generator_loss(step: Step, g: Weights, d: Weights, known: int, back: float = 10.0) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, source, target in zip(step.rows, step.sources, step.targets, strict=True):
        fake = translate(g, step.images[row], hot(target, known))
        score, logits = judge(d, fake)
        again = translate(g, fake, hot(source, known))
        total = total - score - logits.log_softmax(0)[target] + back * (step.images[row] - again).abs().mean()
    return total / len(step.rows)


def plan(batch: Batch, members: tuple[int, ...], permuted: bool = True) -> Step:
    """The rows, domains and draws of one network, found one by one."""
    labels = batch.targets.tolist()
    keys = uniform(0, "translation.targets", 0, torch.arange(SIZE), 1)[:, 0].tolist()
    order = sorted(range(SIZE), key=lambda i: keys[i]) if permuted else list(range(SIZE))
    rows = [i for i in range(SIZE) if labels[i] in members]
    wanted = (
        [labels[order[i]] for i in rows]
        if len(members) == DOMAINS
        else [members[1 - members.index(labels[i])] for i in rows]
    )
    shares = uniform(0, "translation.share", 0, torch.arange(SIZE), 1)[:, 0].double()
    # the data's mean and deviation are a half, so its inputs are images already
    return Step(rows, batch.inputs, [members.index(labels[i]) for i in rows], list(map(members.index, wanted)), shares)


def of_net(weights: Weights, k: int) -> Weights:
    start = f"nets.{k}."
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


Account = tuple[Callable[..., Tensor], Callable[..., Tensor], bool]
RIGHT: Account = (discriminator_loss, generator_loss, True)


def step_once(techniques: tuple[str, ...], account: Account = RIGHT) -> tuple[float, float]:
    """The largest difference of a weight from the account after one step: of the generator, of the discriminator."""
    recipe = build_small(SGD, techniques)
    data, method, _ = workbench(recipe)
    batch = data.loader(SIZE, 0).batch(0)
    of_discriminator, of_generator, permuted = account
    nets = [part.network for part in method.parts().values()]  # type: ignore[attr-defined]
    gen, dis = ({k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()} for net in nets)
    members = ((0, 1, 2),) if techniques else ((0, 1), (0, 2), (1, 2))
    expected: tuple[Weights, Weights] = ({}, {})
    for k, member in enumerate(members):
        step, g, d = plan(batch, member, permuted), of_net(gen, k), of_net(dis, k)
        with torch.no_grad():
            fakes = [
                translate(g, step.images[r], hot(t, len(member))) for r, t in zip(step.rows, step.targets, strict=True)
            ]
        slopes = torch.autograd.grad(of_discriminator(step, d, fakes), list(d.values()))
        moved = {name: (w - RATE * s).detach() for (name, w), s in zip(d.items(), slopes, strict=True)}
        slopes = torch.autograd.grad(of_generator(step, g, moved, len(member)), list(g.values()))
        for out, old, new in (
            (expected[1], d, moved),
            (expected[0], g, {n: (w - RATE * s).detach() for (n, w), s in zip(g.items(), slopes, strict=True)}),
        ):
            assert old.keys() == new.keys()
            out.update({f"nets.{k}.{name}": value for name, value in new.items()})
    method.train_step(batch, Progress(0, 10, 0))
    return tuple(  # type: ignore[return-value]
        max(float((p.detach() - weights[name]).abs().max()) for name, p in net.named_parameters())
        for net, weights in zip(nets, expected, strict=True)
    )


@pytest.mark.parametrize("techniques", [ONE, PAIRS])
def test_one_step_is_the_one_written_out(techniques: tuple[str, ...]) -> None:
    generator, discriminator = step_once(techniques)
    assert generator < 1e-10
    assert discriminator < 1e-10


@pytest.mark.parametrize(
    ("techniques", "account", "which"),
    [
        (ONE, (lambda s, d, f: discriminator_loss(s, d, f, penalty=5.0), generator_loss, True), 1),
        (ONE, (lambda s, d, f: discriminator_loss(s, d, f, at=lambda e: 1 - e), generator_loss, True), 1),
        (ONE, (discriminator_loss, lambda *a: generator_loss(*a, back=5.0), True), 0),
        (ONE, (discriminator_loss, generator_loss, False), 0),
        (PAIRS, (lambda s, d, f: discriminator_loss(s, d, f) * len(s.rows) / SIZE, generator_loss, True), 1),
    ],
    ids=["half the penalty", "ε turned round", "half the way back", "own domains as targets", "mean over all images"],
)
def test_negative_control_another_account_is_seen(techniques: tuple[str, ...], account: Account, which: int) -> None:
    assert step_once(techniques, account)[which] > 1e-6


def test_a_step_of_the_generator_leaves_the_discriminators_gradients_and_counts_for_the_others() -> None:
    gradients = []
    for every in (1, 3):  # at step 1 the generator has a step in the first method alone
        recipe = build_small((*SGD, f"method.generator_every={every}"), ONE)
        data, method, _ = workbench(recipe)
        loader = data.loader(SIZE, 0)
        network = method.parts()["discriminator"].network  # type: ignore[attr-defined]
        metrics = method.train_step(loader.batch(1), Progress(1, 10, 0))
        assert ("train/loss_generator" in metrics) == (every == 1)
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(one.any() for one in gradients[0])


def test_metrics_of_the_generators_steps_add_up_to_the_mean_over_a_window() -> None:
    found = []
    for every in (1, 3):
        data, method, _ = workbench(build_small((*SGD, f"method.generator_every={every}"), ONE))
        found.append(method.train_step(data.loader(SIZE, 0).batch(0), Progress(0, 10, 0)))
    for name in ("train/loss_generator", "train/reconstruction", "train/domain_generator"):
        one, three = (torch.as_tensor(metrics[name]) for metrics in found)
        assert torch.allclose(3 * one, three), name
    assert torch.equal(*(torch.as_tensor(metrics["train/loss"]) for metrics in found))

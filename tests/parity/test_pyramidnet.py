"""PyramidNet against the sizes the CutMix authors' code reports and a straight-line network written from its
description."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.core.progress import Progress
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.models import pyramidnet
from paribus.models.groups import decay_groups
from paribus.models.pyramidnet import PyramidNet
from paribus.recipe.configs import find_config_folder
from paribus.recipe.recipe import Recipe, build_recipe

CIFAR100 = Spec(classes=100, channels=3, height=32, width=32)
PUBLISHED = [(200, 240, True, 26.84), (110, 64, True, 1.73), (110, 64, False, 2.62)]  # millions, official code
TIED = (14, 27, False)  # 4.5 channels a block: every other sum lies at a half


def made(depth: int, alpha: int, bottleneck: bool, spec: Spec = CIFAR100, seed: int = 0) -> nn.Module:
    with use_generator(stream(seed, "test.pyramidnet")):
        return PyramidNet(depth=depth, alpha=alpha, bottleneck=bottleneck)(spec)


def millions(depth: int, alpha: int, bottleneck: bool) -> float:
    with torch.device("meta"):
        model = PyramidNet(depth=depth, alpha=alpha, bottleneck=bottleneck)(CIFAR100)
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 2)


@pytest.mark.parametrize(("depth", "alpha", "bottleneck", "published"), PUBLISHED)
def test_has_the_published_number_of_parameters(depth, alpha, bottleneck, published):
    assert millions(depth, alpha, bottleneck) == published


@pytest.mark.parametrize(("depth", "alpha", "bottleneck", "published"), PUBLISHED)
def test_negative_control_a_plan_shifted_by_one_block_misses_the_published_number(
    depth, alpha, bottleneck, published, monkeypatch
):
    plan = pyramidnet.plan
    monkeypatch.setattr(pyramidnet, "plan", lambda *args: [16, *plan(*args)[:-1]])
    assert millions(depth, alpha, bottleneck) != published


def widths_built(depth: int, alpha: int, bottleneck: bool) -> list[int]:
    """Read off the network: the inputs of each block's last convolution, which has them at its width in both kinds."""
    with torch.device("meta"):
        model = PyramidNet(depth=depth, alpha=alpha, bottleneck=bottleneck)(CIFAR100)
    return [[m for m in block.modules() if isinstance(m, nn.Conv2d)][-1].in_channels for block in model.blocks]


def widths_in_fractions(depth: int, alpha: int, bottleneck: bool) -> list[int]:
    n = (depth - 2) // 9 if bottleneck else (depth - 2) // 6
    return [round(16 + Fraction(alpha, 3 * n) * k) for k in range(1, 3 * n + 1)]


@pytest.mark.parametrize("size", [*[row[:3] for row in PUBLISHED], TIED])
def test_widths_grow_by_alpha_over_all_blocks_and_end_at_16_plus_alpha(size):
    assert widths_built(*size) == widths_in_fractions(*size)
    assert widths_built(*size)[-1] == 16 + size[1]


def test_where_a_sum_lies_at_a_half_the_plan_is_that_of_a_running_sum_of_floats():
    depth, alpha, width, wanted = 14, 11, 16.0, []
    for _ in range(6):
        width = width + alpha / 6
        wanted.append(round(width))
    assert widths_built(depth, alpha, False) == wanted
    assert wanted != widths_in_fractions(depth, alpha, False)  # else this would show nothing


def test_bottlenecks_leave_four_times_their_width_to_the_classifier():
    assert made(20, 30, True).head.in_features == 4 * 46
    assert made(20, 30, False).head.in_features == 46


@pytest.mark.parametrize("rounding", [math.floor, lambda width: math.floor(width + 0.5)], ids=["down", "half up"])
def test_negative_control_widths_rounded_otherwise_differ(rounding, monkeypatch):
    monkeypatch.setattr(pyramidnet, "round", rounding, raising=False)
    assert widths_built(*TIED) != widths_in_fractions(*TIED)


def straight_line(model: nn.Module, x: torch.Tensor, blocks: int, convs: int) -> torch.Tensor:
    """The network in training mode from its parameters in order: no module of ours takes part."""
    left = iter(model.parameters())

    def norm(x: torch.Tensor) -> torch.Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        scale, shift = next(left), next(left)
        return (x - mean) / (var + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]

    def conv(x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = next(left)
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = norm(conv(x))
    for block in range(blocks):
        stride = 2 if block > 0 and block % (blocks // 3) == 0 else 1
        strides = {2: (stride, 1), 3: (1, stride, 1)}[convs]
        out = norm(conv(norm(x), strides[0]))
        for s in strides[1:]:
            out = norm(conv(out.clamp(min=0), s))
        if stride == 2:
            x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
        zeros = x.new_zeros(x.shape[0], out.shape[1] - x.shape[1], *x.shape[2:])
        x = out + torch.cat((x, zeros), 1)
    x = norm(x).clamp(min=0)
    x = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    weight, bias = next(left), next(left)
    assert next(left, None) is None
    return x @ weight.T + bias


def difference(bottleneck: bool) -> float:
    model = made(20, 27, bottleneck).double()
    generator = stream(1, "test.pyramidnet")
    with torch.no_grad():
        for parameter in model.parameters():  # else BatchNorm's shift is 0, and a ReLU moved across it might not show
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(3, 3, 16, 16, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        wanted = straight_line(model, x, len(model.blocks), 3 if bottleneck else 2)
        return float((model(x) - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("bottleneck", [True, False])
def test_computes_what_the_straight_line_network_computes(bottleneck):
    assert difference(bottleneck) < 1e-10


def _relu_first(convs: Any) -> nn.Sequential:
    path = _residual_path(convs)
    return nn.Sequential(path[0], nn.ReLU(), *path[1:])


_residual_path, _avg_pool2d, _pad = pyramidnet.residual_path, F.avg_pool2d, F.pad


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (pyramidnet, "residual_path", _relu_first),
        (pyramidnet.F, "avg_pool2d", lambda x, *_, **__: x[..., ::2, ::2]),
        (pyramidnet.F, "pad", lambda x, pads: _pad(x, (0, 0, 0, 0, pads[5], 0))),
    ],
    ids=["a ReLU before the first convolution", "skipped pixels", "new channels in front"],
)
def test_negative_control_another_block_computes_something_else(bottleneck, where, name, wrong, monkeypatch):
    monkeypatch.setattr(where, name, wrong)
    assert difference(bottleneck) > 1e-3


def variances(model: nn.Module) -> list[float]:
    """Of each convolution's weights, in units of 2 / (k² outputs)."""
    convs = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000]
    return [float(w.square().mean()) * w.shape[0] * w.shape[2] * w.shape[3] / 2 for w in convs]


def test_convolutions_start_normal_with_variance_2_over_fan_out():
    for ratio in variances(made(29, 90, True)):
        assert ratio == pytest.approx(1, abs=0.1)  # the standard error is at most √(2 / 5000) = 0.02


def test_negative_control_variance_2_over_fan_in_is_noticed(monkeypatch):
    normal = nn.init.kaiming_normal_
    monkeypatch.setattr(pyramidnet.nn.init, "kaiming_normal_", lambda w, mode, nonlinearity: normal(w))
    assert any(abs(ratio - 1) > 0.1 for ratio in variances(made(29, 90, True)))


def test_norms_start_at_1_and_0_and_the_classifier_as_torch_has_it():
    model = made(20, 30, True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))
    with use_generator(stream(3, "test")):
        plain = nn.Linear(model.head.in_features, 100)
    assert float(model.head.weight.detach().std()) == pytest.approx(float(plain.weight.detach().std()), rel=0.05)


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (16, 16, 3), (13, 9, 1)])
def test_any_image_size_gives_one_row_of_scores_an_image(height, width, channels):
    spec = Spec(classes=7, channels=channels, height=height, width=width)
    scores = made(20, 12, True, spec)(torch.zeros(2, channels, height, width))
    assert scores.shape == (2, 7)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"depth": 112}, "model.depth: found 112; depth must be 9n\\+2"),
        ({"depth": 112, "bottleneck": False}, "model.depth: found 112; depth must be 6n\\+2"),
        ({"alpha": 0}, "model.alpha: found 0"),
    ],
)
def test_an_impossible_size_is_refused_in_one_line(values, said):
    with pytest.raises(ConfigError, match=said):
        instantiate(PyramidNet, values, "model")


def recipe(*overrides: str) -> Recipe:
    with initialize_config_dir(str(find_config_folder()), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    asked = plain.pop("hydra")["runtime"]["choices"]["technique"]
    return build_recipe(plain, [asked])


def settings(made: Recipe) -> dict[str, Any]:
    """What the paper fixes, as numbers."""
    epochs = (0, 149, 150, 224, 225, 299)
    factors = [made.schedule(Progress(epoch * 781, 300 * 781, 0, 781)) for epoch in epochs]
    optimizer = made.optimizer(decay_groups(made.model(CIFAR100), made.optimizer.decay))
    return {
        "length": (made.steps, made.batch_size),
        "rates": [float(f"{made.optimizer.lr * factor:.6g}") for factor in factors],
        "sgd": [(type(optimizer), g["momentum"], g["nesterov"], g["weight_decay"]) for g in optimizer.param_groups],
        "tensors": len(optimizer.param_groups[0]["params"]),
        "prob": made.transforms["cutmix"].prob,
    }


CUTMIX = ("technique=cutmix", "transforms.cutmix.prob=0.5")
PAPER = {
    "length": ("300ep", 64),
    "rates": [0.25, 0.25, 0.025, 0.025, 0.0025, 0.0025],
    "sgd": [(torch.optim.SGD, 0.9, True, 1e-4)],
    "tensors": 3 + 66 * (3 + 2 * 4) + 4,  # stem and its norm; 3 convolutions and 4 norms a block; norm and classifier
    "prob": 0.5,
}


def test_the_recipe_is_the_papers():
    assert settings(recipe("experiment=cifar100_pyramidnet200", *CUTMIX)) == PAPER


@pytest.mark.parametrize("other", ["optimizer.lr=0.1", "schedule=cosine", "optimizer.decay=matrices"])
def test_negative_control_another_setting_is_not_the_papers(other):
    assert settings(recipe("experiment=cifar100_pyramidnet200", *CUTMIX, other)) != PAPER


def test_the_model_configs_are_the_published_networks():
    assert recipe("model=pyramidnet200").model == PyramidNet(depth=200, alpha=240, bottleneck=True)
    assert recipe("model=pyramidnet110").model == PyramidNet(depth=110, alpha=64, bottleneck=True)

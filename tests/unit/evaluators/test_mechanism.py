"""Measurements of layers: attention, ranks and lengths, against straight-line accounts in NumPy."""

import copy
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.evaluations import plain_context
from helpers.pretended_ranks import on_ranks
from paribus.core.capabilities import AttentionMap, HasAttention
from paribus.core.errors import ConfigError, RunFailed
from paribus.core.evaluation import EvaluationContext
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.core.sums import Sums
from paribus.evaluators import mechanism, ranks
from paribus.evaluators.attention import among_cells, entropy, mean_distance
from paribus.evaluators.mechanism import Mechanism
from paribus.evaluators.ranks import (
    NONLINEARITIES,
    RATIOS,
    draw_layer,
    gram,
    random_rank_ratios,
    rank_of_gram,
    rank_ratio,
)
from paribus.methods.evaluated import PlainNetwork
from paribus.models.vit import ViT
from paribus.models.vit_blocks import Attention
from paribus.techniques.pit import OverlappingStem, Pooling

N, SIDE, CLASSES = 7, 18, 3
SPEC = Spec(CLASSES, 2, SIDE, SIDE)


def make_images() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    return torch.randn(N, 2, SIDE, SIDE, generator=random), torch.arange(N) % CLASSES, torch.arange(N)


@cache
def build_pit() -> nn.Module:
    """Grids of 8×8, 4×4 and 2×2 cells; the first has overlapping patches. Its attention is far from even."""
    factory = ViT(patch=4, depths=(1, 2, 1), heads=2, head_dim=4, stem=OverlappingStem(), pooling=Pooling())
    with use_generator(stream(0, "net")):
        model = factory(SPEC)
        for module in model.modules():
            if isinstance(module, Attention):
                nn.init.normal_(module.qkv.weight, std=0.7)
    return model.eval()


def make_pit() -> nn.Module:
    return copy.deepcopy(build_pit())


class ThinNet(nn.Module):
    """Its second layer has rank 3, its third is grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3)
        self.thin = nn.Conv2d(6, 8, 1, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, groups=8)
        self.head = nn.Linear(8, CLASSES)
        with torch.no_grad():
            self.thin.weight.copy_((torch.randn(8, 3) @ torch.randn(3, 6))[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(torch.relu(self.thin(torch.relu(self.first(x))))).mean((2, 3)))


def make_thin_net() -> ThinNet:
    with use_generator(stream(0, "thin")):
        return ThinNet().eval()


def measure(evaluator: Mechanism, model: nn.Module, world: int = 1) -> tuple[dict[str, float], dict[str, Any], Sums]:
    context: EvaluationContext = plain_context(CLASSES)
    sums = on_ranks(evaluator, PlainNetwork(model), make_images(), context, world)
    return evaluator.derived(sums, context), evaluator.details(sums, context), sums


@torch.no_grad()
def attention_by_loops(model: nn.Module) -> list[tuple[float, float]]:
    """Entropy and distance of each layer, from what its attention is given in an ordinary forward pass."""
    given: list[tuple[Attention, np.ndarray]] = []
    for module in model.modules():
        if isinstance(module, Attention):

            def keep(_: nn.Module, args: Any, layer: Attention = module) -> None:
                given.append((layer, args[0].double().numpy()))

            module.register_forward_pre_hook(keep)
    model(make_images()[0])
    results: list[tuple[float, float]] = []
    for (layer, x), grid, pitch in zip(given, (8, 4, 4, 2), (2, 4, 4, 8), strict=True):
        weight, bias = (p.detach().double().numpy() for p in (layer.qkv.weight, layer.qkv.bias))
        width = x.shape[2]
        q, k = ((x @ weight[at : at + width].T + bias[at : at + width]) for at in (0, width))
        head_dim, nats, distances = width // layer.heads, [], []
        for image in range(N):
            for head in range(layer.heads):
                channels = slice(head * head_dim, (head + 1) * head_dim)
                for query in range(grid * grid):
                    scores = k[image, 1:, channels] @ q[image, 1 + query, channels] / math.sqrt(head_dim)
                    p = np.exp(scores - scores.max())  # over cells alone: the class token is the first
                    p /= p.sum()
                    nats.append(-sum(v * math.log(v) for v in p if v > 0))
                    here = divmod(query, grid)
                    between = [pitch * math.dist(here, divmod(key, grid)) for key in range(grid * grid)]
                    distances.append(float(p @ between))
        results.append((float(np.mean(nats)), float(np.mean(distances))))
    return results


EXPECTED = attention_by_loops(make_pit())


def check_attention(size: int, world: int) -> None:
    metrics, details, _ = measure(Mechanism(parts=("attention",), batch_size=size), make_pit(), world)
    for i, what in enumerate(("entropy", "distance")):
        layers = [values[i] for values in EXPECTED]
        assert details[f"attention_{what}"]["curve"]["y"] == pytest.approx(layers, rel=1e-6)
        assert metrics[f"val/attention_{what}"] == pytest.approx(np.mean(layers), rel=1e-6)
    evenness = [nats / math.log(cells) for (nats, _), cells in zip(EXPECTED, (64, 16, 16, 4), strict=True)]
    assert details["attention_evenness"]["curve"]["y"] == pytest.approx(evenness, rel=1e-6)


@pytest.mark.parametrize(("size", "world"), [(1, 1), (3, 1), (64, 1), (3, 2), (2, 4)])
def test_attention_as_loops_over_queries(size: int, world: int) -> None:
    check_attention(size, world)


def test_negative_controls_a_class_token_and_cells_without_a_pitch_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_token(found: AttentionMap) -> Tensor:  # taken for the first cell
        return among_cells(AttentionMap(found.weights.roll(1, 3), found.grid, found.pitch))

    wrong = {"among_cells": with_token, "mean_distance": lambda w, grid, pitch: mean_distance(w, grid, (1, 1))}
    for name, made in wrong.items():
        with monkeypatch.context() as patched:
            patched.setattr(mechanism, name, made)
            with pytest.raises(AssertionError):
                check_attention(64, 1)


def test_attention_whose_numbers_are_known() -> None:
    even = torch.full((2, 1, 6, 6), 1 / 6, dtype=torch.float64)
    assert entropy(even).tolist() == pytest.approx([math.log(6)] * 2)
    itself = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    assert entropy(itself).tolist() == mean_distance(itself, (2, 3), (4, 4)).tolist() == [0, 0]
    last = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    last[..., 5] = 1  # all look at the lower right cell, 1 below and 2 across from the first
    across = [math.hypot(5, 14), math.hypot(5, 7), 5, 14, 7, 0]
    assert mean_distance(last, (2, 3), (5, 7)).item() == pytest.approx(np.mean(across))


def test_a_query_that_looks_at_the_class_token_alone_counts_as_zero() -> None:
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 0] = 1
    assert entropy(among_cells(AttentionMap(weights, (2, 2), (1, 1)))).item() == 0


def test_weights_are_those_that_the_fused_operation_uses() -> None:
    with use_generator(stream(1, "attention")):
        layer, x = Attention(12, 3).eval(), torch.randn(4, 7, 12)
    values = layer.qkv(x).unflatten(2, (3, 3, 4))[:, :, 2].transpose(1, 2)
    made = layer.proj((layer.weights(x) @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(made, layer(x), rtol=1e-5, atol=1e-6)


def test_measuring_leaves_the_network_as_it_was() -> None:
    model, (inputs, _, _) = make_pit(), make_images()
    before = model(inputs)
    assert isinstance(model, HasAttention)
    measure(Mechanism(parts="auto"), model)
    assert torch.equal(model(inputs), before)
    assert not any(module._forward_hooks for module in model.modules())


@torch.no_grad()
def check_ranks(size: int, world: int, tolerance: float = 0.01) -> None:
    model, (inputs, _, _) = make_thin_net(), make_images()
    first = model.first(inputs)
    thin = model.thin(first.relu())
    pooled = model.grouped(thin.relu()).mean((2, 3))
    features = {"in": [inputs, first.relu(), pooled], "out": [first, thin, model.head(pooled)]}
    metrics, details, _ = measure(Mechanism(parts=("rank",), batch_size=size, tolerance=tolerance), model, world)
    for side, layers in features.items():
        ratios: list[float] = []
        for layer in layers:
            matrix = layer.double().movedim(1, -1).reshape(-1, layer.shape[1]).numpy()
            ratios.append(float(np.linalg.matrix_rank(matrix, tol=0.01 * np.linalg.norm(matrix, 2))) / layer.shape[1])
        curve = details[f"rank_{side}"]["curve"]
        assert curve["names"] == ["first", "thin", "head"]
        assert curve["y"] == ratios
        assert metrics[f"val/rank_{side}"] == pytest.approx(np.mean(ratios))
    assert details["rank_out"]["curve"]["y"][1] == 3 / 8


@pytest.mark.parametrize(("size", "world"), [(1, 1), (5, 1), (64, 1), (5, 2), (2, 4)])
def test_ranks_as_numpy_has_them(size: int, world: int) -> None:
    check_ranks(size, world)


def test_negative_controls_another_tolerance_and_rows_for_channels_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        check_ranks(64, 1, tolerance=0.3)
    monkeypatch.setattr(ranks, "_ConvNd", type("NoConvolution", (), {"groups": 1}))
    with pytest.raises(AssertionError):
        check_ranks(64, 1)


@pytest.mark.parametrize("name", list(NONLINEARITIES))
def test_random_layers_as_numpy_has_them(name: str) -> None:
    by_name = {
        "linear": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
        "silu": lambda x: x / (1 + np.exp(-x)),
    }
    found = random_rank_ratios(draws=2, tolerance=0.01, seed=4)
    for draw in range(2):
        for j, ratio in enumerate(RATIOS):
            weights, inputs = (part.numpy() for part in draw_layer(4, draw, ratio))
            made = by_name[name](weights @ inputs)
            rank = np.linalg.matrix_rank(made, tol=0.01 * np.linalg.norm(made, 2))
            assert found[list(NONLINEARITIES).index(name), j, draw] == rank / len(weights)


def test_negative_control_a_linear_layer_has_the_rank_of_its_inputs_and_silu_more() -> None:
    weights, inputs = draw_layer(0, 0, 0.3)
    outputs, width = weights.shape
    assert 32 <= outputs <= 128
    assert (width, inputs.shape) == (round(0.3 * outputs), (width, outputs))
    assert rank_ratio(weights, inputs, NONLINEARITIES["linear"], 1e-9) == width / outputs
    assert rank_ratio(weights, inputs, NONLINEARITIES["silu"], 0.01) > 0.6
    # why the tolerance belongs to the result
    assert rank_ratio(weights, inputs, NONLINEARITIES["relu"], 1e-9) == 1
    assert rank_ratio(weights, inputs, NONLINEARITIES["relu"], 0.01) < 1


def test_ranks_share_the_draws_of_random_layers() -> None:
    evaluator = Mechanism(parts=("random_layers",), draws=2)
    one, two, four = (measure(evaluator, nn.Linear(1, 1), world) for world in (1, 2, 4))  # more than draws
    assert one[0] == two[0] == four[0]
    assert set(one[0]) == set(evaluator.keys) == {f"random_rank/{name}" for name in NONLINEARITIES}
    curve = one[1]["random_layers_silu"]["curve"]
    assert curve["x"] == list(RATIOS)
    assert all(low <= y <= high for low, y, high in zip(curve["low"], curve["y"], curve["high"], strict=True))


def test_lengths_are_those_of_convolutions_alone_whatever_the_world() -> None:
    model = make_pit()
    norms = [
        float(np.linalg.norm(p.detach().double().numpy()))
        for n, p in model.named_parameters()
        if n.endswith("weight") and ("stem" in n or ".conv." in n)
    ]
    assert len(norms) == 3
    for world in (1, 4):
        metrics, details, _ = measure(Mechanism(parts=("lengths",)), model, world)
        assert details["lengths"]["curve"]["y"] == pytest.approx(norms, rel=1e-12)
        assert metrics == {"lengths/convolutions": pytest.approx(np.mean(norms), rel=1e-12)}


def test_what_a_network_lacks_is_left_out_or_refused() -> None:
    metrics, _, _ = measure(Mechanism(), make_thin_net())
    assert set(metrics) == {"val/rank_in", "val/rank_out", "lengths/convolutions"}
    both, _, _ = measure(Mechanism(), make_pit())
    assert set(both) == set(Mechanism().keys)
    method = PlainNetwork(make_thin_net())
    with pytest.raises(ConfigError, match=r"evaluators\.mechanism\.parts: found attention; ThinNet has no attention"):
        Mechanism(parts=("rank", "attention")).check_method(method, plain_context(CLASSES))
    with pytest.raises(ConfigError, match="found lengths; Linear has no convolutions"):
        Mechanism(parts=("lengths",)).check_method(PlainNetwork(nn.Linear(1, 1)), plain_context(CLASSES))
    known = replace(plain_context(CLASSES), sizes={"val": N})
    Mechanism(parts=("rank", "lengths")).check_method(method, known)
    Mechanism().check_method(method, known)
    Mechanism(parts=("lengths",)).check_method(method, plain_context(CLASSES))  # which needs no images


def test_outputs_that_are_not_finite_have_no_rank() -> None:
    with pytest.raises(RunFailed, match="NaN or infinite, and have no rank"):
        rank_of_gram(gram(torch.full((4, 3), float("nan")), 1), 0.01)
    assert rank_of_gram(gram(torch.eye(3)[[0, 0, 1]], 1), 0.01) == 2

"""AdamP and SGDP against the authors' package, and with delta = 0 against torch's own AdamW and SGD.

The readable reference is held to them here, and so are the faster forms; test_adamp_ways.py holds the forms to each
other. In float64 two networks train side by side for 200 steps. In float32 they would drift apart by rounding, so there
ours starts every step from the authors' weights and state.
"""

import functools
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import adamp as authors
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paribus.core.streams import stream
from paribus.techniques import adamp as ours

STEPS = 200
EXACT, ROUNDED = 1e-12, 1e-6  # normwise relative, in float64 and float32
WAYS: dict[str, dict[str, Any]] = {"reference": {"foreach": False}, "batched": {}, "fused": {"fused": True}}
Make = Callable[..., torch.optim.Optimizer]


class Net(nn.Module):
    """One weight of each kind: two that BatchNorm makes scale-invariant, and three that nothing does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)])
        self.biased = nn.Conv2d(8, 6, 3, bias=True)
        self.table = nn.Embedding(12, 6)  # rows 10 and 11 are never used: their gradient is 0
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        x = self.norms[0](self.conv(x)).relu()
        x = self.norms[1](self.depthwise(x)).relu()
        return self.head(self.biased(x).mean((2, 3)) + self.table(ids))


def network(dtype: torch.dtype) -> Net:
    """The same every time."""
    net, generator = Net().to(dtype), stream(0, "parity")
    for p in net.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.3, generator=generator)
    nn.init.zeros_(net.biased.bias)  # type: ignore[arg-type]
    nn.init.zeros_(net.head.bias)
    return net


@functools.cache
def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = stream(1, "parity", step)
    x = torch.randn(6, 3, 5, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (6,), generator=generator), torch.randint(5, (6,), generator=generator)


def backward(net: Net, step: int) -> None:
    x, ids, y = batch(step)
    net.zero_grad()
    F.cross_entropy(net(x.to(net.head.weight.dtype), ids), y).backward()


def needs_a_compiler() -> None:
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler, so the fused form on a CPU falls back to the batched one")


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def view_used(gradient: Tensor, weight: Tensor, delta: float) -> str:
    """What the rule says for this tensor, written down once more, with torch's own cosine."""
    if weight.ndim < 2:
        return "never"
    for name, rows in (("channel", weight.shape[0]), ("layer", 1)):
        g, w = gradient.reshape(rows, -1), weight.reshape(rows, -1)
        if F.cosine_similarity(g, w, dim=1, eps=1e-8).abs().max() < delta / g.shape[1] ** 0.5:
            return name
    return "none"


def side_by_side(make: Make, oracle: Make, steps: int = STEPS, dtype: torch.dtype = torch.float64) -> float:
    """The largest difference of any weight at any time when two networks train on the same batches."""
    one, other = network(dtype), network(dtype)
    optimizers = make(one.parameters()), oracle(other.parameters())
    largest = 0.0
    for step in range(steps):
        for net, optimizer in zip((one, other), optimizers, strict=True):
            backward(net, step)
            optimizer.step()
        if step % 20 == 19 or step == steps - 1:
            pairs = zip(one.parameters(), other.parameters(), strict=True)
            largest = max(largest, *(apart(a.detach(), b.detach()) for a, b in pairs))
    return largest


@torch.no_grad()
def step_by_step(make: Make, oracle: Make, steps: int) -> float:
    """The largest difference of any weight or state that one float32 step makes, from the oracle's own start."""
    net = network(torch.float32)
    twins = [nn.Parameter(p.detach().clone()) for p in net.parameters()]
    theirs, mine = oracle(net.parameters()), make(twins)
    largest = 0.0
    for step in range(steps):
        with torch.enable_grad():
            backward(net, step)
        for a, b in zip(twins, net.parameters(), strict=True):
            a.grad = b.grad
        theirs.step()
        mine.step()
        for a, b in zip(twins, net.parameters(), strict=True):
            state = {{"momentum": "momentum_buffer"}.get(k, k): v for k, v in theirs.state[b].items() if k != "step"}
            assert mine.state[a].keys() - {"step"} == state.keys()
            for ours_, theirs_ in [(a, b), *((mine.state[a][key], value) for key, value in state.items())]:
                largest = max(largest, apart(ours_, theirs_))
                ours_.copy_(theirs_)
    return largest


def adamp_pair(nesterov: bool, weight_decay: float, way: str) -> tuple[Make, Make]:
    options: dict[str, Any] = {"lr": 3e-3, "weight_decay": weight_decay, "nesterov": nesterov}
    return lambda p: ours.AdamP(p, **options, **WAYS[way]), lambda p: authors.AdamP(p, **options)


def sgdp_pair(nesterov: bool, weight_decay: float, way: str, alias: bool = True) -> tuple[Make, Make]:
    options: dict[str, Any] = {"lr": 0.03, "momentum": 0.9, "dampening": 0.1, "nesterov": nesterov}
    options["weight_decay"] = weight_decay
    own = {"alias_momentum": alias, **WAYS[way]}
    return lambda p: ours.SGDP(p, **options, **own), lambda p: authors.SGDP(p, **options)


PAIRS = {"adamp": (adamp_pair, 0.1), "sgdp": (sgdp_pair, 5e-3)}
every_setting = pytest.mark.parametrize(
    ("name", "nesterov", "decays"),
    [(name, nesterov, decays) for name in PAIRS for nesterov in (False, True) for decays in (False, True)],
)


def pair_of(name: str, nesterov: bool, decays: bool, way: str = "reference") -> tuple[Make, Make]:
    make, weight_decay = PAIRS[name]
    return make(nesterov, weight_decay if decays else 0.0, way)


@every_setting
def test_float64_training_is_the_authors(name: str, nesterov: bool, decays: bool) -> None:
    assert side_by_side(*pair_of(name, nesterov, decays)) <= EXACT


@every_setting
def test_each_float32_step_is_the_authors(name: str, nesterov: bool, decays: bool) -> None:
    assert step_by_step(*pair_of(name, nesterov, decays), steps=STEPS // 2) <= ROUNDED


@pytest.mark.parametrize("way", ["batched", "fused"])
@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_faster_forms_train_as_the_authors_too(name: str, nesterov: bool, way: str) -> None:
    if way == "fused":
        needs_a_compiler()
    pair = pair_of(name, nesterov, True, way)
    assert side_by_side(*pair, steps=STEPS // 2) <= EXACT
    assert step_by_step(*pair, steps=STEPS // 4) <= ROUNDED


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_runs_compared_use_both_views_and_neither(name: str) -> None:
    net = network(torch.float64)
    optimizer = pair_of(name, False, True)[1](net.parameters())
    used: dict[str, Counter[str]] = {key: Counter() for key, _ in net.named_parameters()}
    for step in range(STEPS):
        backward(net, step)
        for key, p in net.named_parameters():
            assert p.grad is not None
            used[key][view_used(p.grad, p.detach(), 0.1)] += 1
        optimizer.step()
    for scale_invariant in ("conv.weight", "depthwise.weight"):
        assert used[scale_invariant] == {"channel": STEPS}
    total = sum(used.values(), Counter())
    assert total["layer"] >= 20
    assert total["none"] >= 100


def test_without_aliasing_only_plain_momentum_differs_from_the_authors() -> None:
    assert side_by_side(*sgdp_pair(True, 0.0, "reference", alias=False), steps=60) <= EXACT
    assert side_by_side(*sgdp_pair(False, 0.0, "reference", alias=False), steps=60) > 1e-4


def torch_pair(name: str) -> tuple[Make, Make]:
    if name == "adamp":
        adam: dict[str, Any] = {"lr": 3e-3, "weight_decay": 0.1}
        return lambda p: ours.AdamP(p, delta=0.0, foreach=False, **adam), lambda p: torch.optim.AdamW(p, **adam)
    sgd: dict[str, Any] = {"lr": 0.03, "momentum": 0.9, "nesterov": name == "sgdp nesterov"}
    return lambda p: ours.SGDP(p, delta=0.0, foreach=False, **sgd), lambda p: torch.optim.SGD(p, **sgd)


@pytest.mark.parametrize("name", ["adamp", "sgdp", "sgdp nesterov"])
def test_with_delta_0_it_is_torch_own(name: str) -> None:
    assert side_by_side(*torch_pair(name), steps=STEPS // 2) <= EXACT


@pytest.mark.parametrize("name", ["sgdp", "sgdp nesterov"])
def test_with_delta_0_sgdp_is_torch_sgd_to_the_last_bit_of_float32(name: str) -> None:
    assert side_by_side(*torch_pair(name), steps=50, dtype=torch.float32) == 0.0


# Negative controls: the comparisons above must notice each of these.


def not_projected(u: Tensor, g: Tensor, w: Tensor, *options: Any) -> Any:
    return PROJECTION(u, g, w, *options)._replace(update=u, ratio=w.new_ones(()))


def decayed_in_full(u: Tensor, g: Tensor, w: Tensor, delta: float, wd_ratio: float, *options: Any) -> Any:
    return PROJECTION(u, g, w, delta, 1.0, *options)


def judged_by_the_update(u: Tensor, g: Tensor, w: Tensor, *options: Any) -> Any:
    return PROJECTION(u, u, w, *options)


def added_instead(u: Tensor, g: Tensor, w: Tensor, *options: Any) -> Any:
    done = PROJECTION(u, g, w, *options)
    return done._replace(update=2 * u - done.update)


def no_layer_view(gw: Tensor, gg: Tensor, ww: Tensor, size: int, delta: float, eps: float) -> Tensor:
    return ORTHOGONAL(gw, gg, ww, size, delta if gw.ndim else 0.0, eps)


def no_channel_view(gw: Tensor, gg: Tensor, ww: Tensor, size: int, delta: float, eps: float) -> Tensor:
    return ORTHOGONAL(gw, gg, ww, size, 0.0 if gw.ndim else delta, eps)


def threshold_without_size(gw: Tensor, gg: Tensor, ww: Tensor, size: int, delta: float, eps: float) -> Tensor:
    return ORTHOGONAL(gw, gg, ww, 1, delta, eps)


def decay_forgotten(weight: Tensor, u: Tensor, rate: Any, decay: Any) -> None:
    MOVE(weight, u, rate, 0.0)


def moved_too_far(weight: Tensor, u: Tensor, rate: Any, decay: Any) -> None:
    MOVE(weight, u, rate * (1 + 1e-5), decay)


PROJECTION, ORTHOGONAL, MOVE = ours.projection, ours.orthogonal, ours.apply_decay_and_step
MUTANTS: list[tuple[str, Callable[..., Any]]] = [
    ("projection", not_projected),
    ("projection", decayed_in_full),
    ("projection", judged_by_the_update),
    ("projection", added_instead),
    ("orthogonal", no_layer_view),
    ("orthogonal", no_channel_view),
    ("orthogonal", threshold_without_size),
    ("apply_decay_and_step", decay_forgotten),
]


@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize(("part", "mutant"), MUTANTS, ids=lambda m: getattr(m, "__name__", ""))
def test_negative_control_a_mutant_is_told_from_the_authors(
    name: str, part: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, part, mutant)
    pair = pair_of(name, nesterov=False, decays=True)
    assert side_by_side(*pair, steps=25) > 1e3 * EXACT
    assert step_by_step(*pair, steps=25) > 10 * ROUNDED


@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize("decays", [False, True])
def test_the_other_nesterov_setting_is_told_from_the_authors(name: str, decays: bool) -> None:
    make, oracle = pair_of(name, False, decays)[0], pair_of(name, True, decays)[1]
    assert side_by_side(make, oracle, steps=10) > 1e3 * EXACT
    assert side_by_side(pair_of(name, True, decays)[0], pair_of(name, False, decays)[1], steps=10) > 1e3 * EXACT


@pytest.mark.parametrize("name", ["adamp", "sgdp", "sgdp nesterov"])
def test_negative_control_a_mutant_is_told_from_torch_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ours, "apply_decay_and_step", moved_too_far)
        assert side_by_side(*torch_pair(name), steps=10) > 1e3 * EXACT
    with monkeypatch.context() as patched:  # delta = 0 must not project
        patched.setattr(ours, "orthogonal", lambda *a: ORTHOGONAL(*a[:4], 0.1, a[5]))
        assert side_by_side(*torch_pair(name), steps=10) > 1e3 * EXACT

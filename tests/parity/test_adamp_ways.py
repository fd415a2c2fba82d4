"""Every form of a step of AdamP and SGDP is the readable reference: batched operations, and the C kernel.

Each step starts from the reference's own weights and states, so nothing adds up. Compared normwise, tensor by tensor:
the weights, the states, and in float64 also the change of the weights, of which they are a thousand times more.
"""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.steps_apart import SHAPES, Make, adamp, apart, gradient, largest, parameters, sgdp
from paribus.techniques.adamp.kernels import batched, cpu, dispatch

TOLERANCE = {torch.float32: 1e-6, torch.float64: 4e-15}
REGIMES = ("channel", "layer", "neither")
WAYS: dict[str, dict[str, Any]] = {"batched": {}, "fused": {"fused": True}}
COMPILER = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
every_way = pytest.mark.parametrize(
    "way",
    [
        "batched",
        pytest.param(
            "fused", marks=pytest.mark.skipif(not COMPILER, reason="no C compiler: fused=True on a CPU falls back")
        ),
    ],
)


CASES: list[tuple[Make, dict[str, Any]]] = [
    (adamp, {}),
    (adamp, {"nesterov": True, "weight_decay": 0.0}),
    (adamp, {"maximize": True, "betas": (0.0, 0.5), "eps": 1e-3}),
    (adamp, {"lr": torch.tensor(0.02, dtype=torch.float64)}),
    (adamp, {"lr": 0.0}),
    (sgdp, {}),
    (sgdp, {"nesterov": True, "dampening": 0.0}),
    (sgdp, {"momentum": 0.0}),
    (sgdp, {"maximize": True, "lr": torch.tensor([0.03], dtype=torch.float64)}),
    (sgdp, {"alias_momentum": True}),
    (sgdp, {"alias_momentum": True, "lr": 0.0}),
]
every_case = pytest.mark.parametrize(
    ("make", "options"), CASES, ids=[f"{m.__name__}-{'-'.join(o) or 'plain'}" for m, o in CASES]
)


@every_way
@every_case
@pytest.mark.parametrize("regime", REGIMES)
def test_a_step_is_the_reference(way: str, make: Make, options: dict[str, Any], regime: str) -> None:
    # an update along a row of one number is all projected away, and what an aliased buffer keeps is rounding
    shapes = [s for s in SHAPES if s != (50, 1) or "alias_momentum" not in options]
    for dtype, tolerance in TOLERANCE.items():
        assert largest(make, WAYS[way], dtype, regime, shapes, **options) <= tolerance


@pytest.fixture
def form_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batched form as on a GPU, on CPU tensors."""
    monkeypatch.setattr(batched, "_in_chunks", lambda weight: False)


@pytest.mark.usefixtures("form_of_a_gpu")
@every_case
@pytest.mark.parametrize("regime", REGIMES)
def test_the_batched_form_of_a_gpu_is_the_reference(make: Make, options: dict[str, Any], regime: str) -> None:
    # a CPU adds up a long row number by number, and in float32 an error is left
    shapes = [s for s in SHAPES if math.prod(s) < 5000 and (s != (50, 1) or "alias_momentum" not in options)]
    for dtype, tolerance in TOLERANCE.items():
        assert largest(make, {}, dtype, regime, shapes, **options) <= tolerance


@pytest.mark.usefixtures("form_of_a_gpu")
@pytest.mark.parametrize("make", [adamp, sgdp])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_batched_form_of_a_gpu_in_other_layouts(make: Make, regime: str, layout: str, axis: int) -> None:
    shapes: list[tuple[int, ...]] = [(6, 4, 3, 3), (5, 3, 1, 1), (33, 40)]
    assert largest(make, {}, regime=regime, shapes=shapes, layout=layout, channel_axis=axis) <= 4e-15


@pytest.mark.usefixtures("form_of_a_gpu")
@pytest.mark.parametrize("make", [adamp, sgdp])
def test_negative_control_a_row_that_begins_elsewhere_is_noticed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*given: Any) -> Any:
        plan = PLAN(*given)
        bounds = plan.row_bounds.clone()
        bounds[3] += 1
        return dataclasses.replace(plan, row_bounds=bounds)

    monkeypatch.setattr(batched, "_plan", shifted)
    assert largest(make, {}, regime="channel", shapes=[(6, 4, 3, 3), (33, 40)]) > 1e-13


def test_the_regimes_are_what_they_say() -> None:
    for regime, expected in zip(REGIMES, [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)], strict=True):
        made = parameters(torch.float64, [(6, 4, 3, 3), (33, 40)])
        optimizer = adamp(made, diagnostics=True)
        for p in made:
            p.grad = gradient(p.detach(), regime, 0)
        optimizer.step()
        seen = optimizer.diagnostics()
        assert (float(seen["adamp/projected_channel"]), float(seen["adamp/projected_layer"])) == expected


@every_way
@pytest.mark.parametrize("make", [adamp, sgdp])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
@pytest.mark.parametrize("axis", [0, 1])
def test_layouts_and_the_other_channel_axis(way: str, make: Make, regime: str, layout: str, axis: int) -> None:
    shapes: list[tuple[int, ...]] = [(6, 4, 3, 3), (5, 3, 1, 1), (33, 40)]
    assert largest(make, WAYS[way], regime=regime, shapes=shapes, layout=layout, channel_axis=axis) <= 4e-15


@every_way
@pytest.mark.parametrize("make", [adamp, sgdp])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_reference_rounded(way: str, make: Make, dtype: torch.dtype) -> None:
    shapes = [s for s in SHAPES if math.prod(s) < 5000]
    theirs, mine = (parameters(dtype, shapes) for _ in range(2))
    reference, other = make(theirs, foreach=False), make(mine, **WAYS[way])
    for p, q in zip(theirs, mine, strict=True):
        p.grad = gradient(p.detach(), "neither", 0).to(dtype)
        q.grad = p.grad.clone()
    reference.step()
    other.step()
    for p, q in zip(theirs, mine, strict=True):
        # a last bit of float32 may turn the rounding of few elements, by one unit
        assert torch.allclose(q.float(), p.float(), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
        assert int((p != q).sum()) <= p.numel() // 100


@every_way
def test_groups_keep_their_own_options(way: str) -> None:
    shapes: list[tuple[int, ...]] = [(8, 30), (8, 30), (8, 30)]
    own: list[dict[str, Any]] = [
        {"lr": 0.1},
        {"delta": 50.0, "wd_ratio": 0.7},
        {"weight_decay": 0.0, "betas": (0.5, 0.6)},
    ]
    results: list[list[nn.Parameter]] = []
    for options in ({"foreach": False}, WAYS[way]):
        made = parameters(torch.float64, shapes)
        optimizer = adamp([{"params": [p], **o} for p, o in zip(made, own, strict=True)], **options)
        for p in made:
            p.grad = gradient(p.detach(), "neither", 0)
        optimizer.step()
        results.append(made)
    assert all(apart(a.detach(), b.detach()) < 1e-15 for a, b in zip(*results, strict=True))


def test_each_switch_chooses_its_way() -> None:
    leaf = _a_leaf((4, 3))
    assert dispatch._choose_form(leaf, {"foreach": None, "fused": None}) == "batched"
    assert dispatch._choose_form(leaf, {"foreach": True, "fused": None}) == "batched"
    assert dispatch._choose_form(leaf, {"foreach": False, "fused": None}) == "reference"
    assert dispatch._choose_form(leaf, {"foreach": None, "fused": True}) == ("native" if COMPILER else "batched")


def _a_leaf(shape: tuple[int, ...]) -> Any:
    from paribus.techniques.adamp.kernels.params import collect_params

    (p,) = parameters(torch.float32, [shape])
    p.grad = torch.ones_like(p)
    return collect_params(adamp([p]), ("exp_avg", "exp_avg_sq"), True)[0][1][0]


@every_way
@pytest.mark.parametrize("make", [adamp, sgdp])
def test_the_same_bits_every_time_and_for_the_kernel_with_any_number_of_threads(way: str, make: Make) -> None:
    def trained(threads: int) -> list[bytes]:
        made = parameters(torch.float32, [(64, 40, 3, 3), (300, 500), (3, 20000), (50000,)])
        optimizer = make(made, **WAYS[way])
        torch.set_num_threads(threads)
        try:
            for step, regime in enumerate(REGIMES):
                for p in made:
                    p.grad = gradient(p.detach(), regime, step).float()
                optimizer.step()
        finally:
            torch.set_num_threads(1)
        return [p.detach().numpy().tobytes() for p in made]

    once = trained(1)
    assert trained(1) == once
    assert trained(2) == trained(2)
    if way == "fused":
        assert trained(2) == once
        assert trained(5) == once


# Negative controls: the comparison must notice each of these, in each form.

DECIDE, PIECE_UPDATE, PLAN = batched._decide, batched._subtract_update, batched._plan


def _no_layer_view(*given: Any) -> Any:
    along, seen = DECIDE(*given)
    plan = given[4]
    return along.masked_fill(seen.layer.index_select(0, plan.owner), 0.0), seen


def _decay_in_full(*given: Any) -> Any:
    along, seen = DECIDE(*given)
    return along, batched.ProjectionStats(seen.channel & False, seen.layer & False, seen.norm)


def _along_too_long(*given: Any) -> Any:
    along, seen = DECIDE(*given)
    return along * (1 + 1e-6), seen


def _test_without_size(shapes: Any, leaves: Any, delta: float, kept: Any) -> Any:
    return PLAN(shapes, leaves, delta * 100, kept)


def _another_eps(rule: Any, eps: float, rate: float, pieces: Any) -> None:
    PIECE_UPDATE(rule, eps * 1.001 + 1e-12, rate * (1 + 1e-9), pieces)


@pytest.mark.parametrize(
    ("part", "mutant", "regime"),
    [
        ("_decide", _no_layer_view, "layer"),
        ("_decide", _decay_in_full, "channel"),
        ("_decide", _along_too_long, "channel"),
        ("_plan", _test_without_size, "neither"),
        ("_subtract_update", _another_eps, "neither"),
    ],
)
@pytest.mark.parametrize("make", [adamp, sgdp])
def test_negative_control_a_mutant_of_the_batched_form_is_noticed(
    make: Make, part: str, mutant: Any, regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = [(6, 4, 3, 3), (33, 40)]
    assert largest(make, {}, regime=regime, shapes=shapes) <= 4e-15
    monkeypatch.setattr(batched, part, mutant)
    assert largest(make, {}, regime=regime, shapes=shapes) > 1e-13


KERNEL_MUTANTS = {
    "no layer view": ("at->view = LAYER;", "at->view = NONE;", "layer"),
    "full decay": ("(at->view == NONE ? 1 : rule->wd_ratio)", "1", "channel"),
    "unit forgotten": ("for (; i < n; i++)\n        few += x[i] * y[i];", "", "channel"),
    "size forgotten": ("rule->delta / sqrt((double)at->length)", "rule->delta * 100", "neither"),
    "sign": ("scale * change[i] + factor * w[i]", "scale * change[i] - factor * w[i]", "channel"),
    "long row": ("at->view == CHANNEL ? share(uw, (*sums)[WW], eps) : 0", "0", "channel"),
    "states once": ("update_states(job, x, from, n);", "", "channel"),
}


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
@pytest.mark.parametrize("mutant", list(KERNEL_MUTANTS))
def test_negative_control_a_mutant_of_the_kernel_is_noticed(
    mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, regime = KERNEL_MUTANTS[mutant]
    text = cpu._SOURCE.read_text()
    assert text.count(old) == 1
    broken = tmp_path / "broken.c"
    broken.write_text(text.replace(old, new))
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path))
    monkeypatch.setattr(cpu, "_SOURCE", broken)
    cpu.kernel.cache_clear()
    try:
        assert max(largest(make, WAYS["fused"], regime=regime) for make in (adamp, sgdp)) > 1e-13
    finally:
        cpu.kernel.cache_clear()

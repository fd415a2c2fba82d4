"""AdamP and SGDP beside the authors' package, timm's copies, and torch's AdamW and SGD as the lower bound.

On the tensors of whole networks, in both regimes of the projection. Each implementation takes two steps from the same
weights and is compared with the rule in float64; then the same object is timed at a learning rate so small that the
weights do not change, nor does the regime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

import paribus
from paribus.bench.harness.implementation import (
    Case,
    Implementation,
    PreparedImplementation,
    Scope,
    SpeedTarget,
    Unavailable,
    require_package,
)
from paribus.bench.techniques import optimizer_reference
from paribus.bench.techniques.optimizer_problem import (
    CHECKED_STEPS,
    REGIMES,
    OptimizerProblem,
    Regime,
    Shapes,
    Step,
    relative_error,
)
from paribus.bench.techniques.optimizer_reference import OptimizerSettings

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

TOLERANCE = 1e-4  # of the largest error of any tensor's move, relative to that move; float32 leaves about 1e-5
TINY_LR = 1e-12  # a learning rate below the last bit of every weight that matters
SETTINGS = {
    "adamp": OptimizerSettings(lr=1e-2, weight_decay=0.05),
    "sgdp": OptimizerSettings(lr=0.1, weight_decay=0.01),
}


def resnet18() -> Shapes:
    require_package("timm")
    import timm

    with torch.device("meta"):
        return [p.shape for p in timm.create_model("resnet18").parameters()]


def pit_s() -> Shapes:
    return _parameter_shapes(lambda: paribus.pit("s"))


def rexnet() -> Shapes:
    return _parameter_shapes(lambda: paribus.rexnet())


def _parameter_shapes(make: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return [p.shape for p in make().parameters()]


NETWORKS: dict[str, Callable[[], Shapes]] = {"ResNet-18": resnet18, "PiT-S": pit_s, "ReXNet-1.0": rexnet}


def prepare_optimizer(
    problem: OptimizerProblem, make: MakeOptimizer, wanted: Callable[[], list[Tensor]]
) -> PreparedImplementation:
    """An optimizer with its own copy of the weights, to be checked and then timed."""
    parameters = [nn.Parameter(w.clone()) for w in problem.weights]
    optimizer = make(parameters)

    @torch.no_grad()
    def error() -> float:
        for k in range(CHECKED_STEPS):
            for p, g in zip(parameters, problem.gradients(parameters, k), strict=True):
                p.grad = g
            optimizer.step()
        found = [relative_error(p - w, move) for p, w, move in zip(parameters, problem.weights, wanted(), strict=True)]
        _freeze_weights(problem, parameters, optimizer)
        return max(found)

    return PreparedImplementation(error, optimizer.step)


@torch.no_grad()
def _freeze_weights(
    problem: OptimizerProblem, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    gradients = problem.gradients(problem.weights, 0)
    for p, w, g in zip(parameters, problem.weights, gradients, strict=True):
        p.copy_(w)
        p.grad = g
    for group in optimizer.param_groups:
        group["lr"] = TINY_LR


def _paribus_optimizer(
    make: Callable[..., torch.optim.Optimizer], options: dict[str, Any], **switch: bool
) -> MakeOptimizer:
    """One of our forms; Unavailable if this version of paribus does not have it."""

    def make_optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        try:
            return make(parameters, **options, **switch)
        except (TypeError, ValueError) as refusal:
            if not switch:
                raise
            raise Unavailable("not available", f"this paribus has no {_format_options(switch)}") from refusal

    return make_optimizer


def _format_options(options: dict[str, bool]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _package_optimizer(
    package: str, make: Callable[[], Callable[..., torch.optim.Optimizer]], options: dict[str, Any]
) -> MakeOptimizer:
    def make_optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        require_package(package)
        return make()(parameters, **options)

    return make_optimizer


def _authors_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    import adamp

    return getattr(adamp, name)


def _timm_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    import timm.optim

    return getattr(timm.optim, name)


def _choose_options(technique: str, s: OptimizerSettings) -> tuple[str, str, dict[str, Any], Step, Step]:
    """Class, torch's class, options of both, our rule and torch's."""
    if technique == "adamp":
        options: dict[str, Any] = {"lr": s.lr, "betas": s.betas, "eps": s.eps, "weight_decay": s.weight_decay}
        return "AdamP", "AdamW", options, optimizer_reference.adamp_step, optimizer_reference.adamw_step
    options = {"lr": s.lr, "momentum": s.momentum, "nesterov": True, "weight_decay": s.weight_decay}
    return "SGDP", "SGD", options, optimizer_reference.sgdp_step, optimizer_reference.sgd_step


def make_case(technique: str, network: str, shapes: Shapes, regime: Regime, device: torch.device) -> Case:
    """One optimizer on one network's tensors in one regime."""
    problem = OptimizerProblem(shapes, regime, SETTINGS[technique], device)
    name, floor, options, step, floor_step = _choose_options(technique, problem.settings)
    wanted, floor_wanted = (
        _memoize(lambda: problem.expected_moves(step)),
        _memoize(lambda: problem.expected_moves(floor_step)),
    )

    def make_implementation(
        label: str, package: str, make: MakeOptimizer, kind: Literal["ours", "public"] = "public"
    ) -> Implementation:
        return Implementation(label, package, lambda: prepare_optimizer(problem, make, wanted), kind)

    def make_floor(switch: str) -> Implementation:
        make: MakeOptimizer = lambda p: getattr(torch.optim, floor)(p, **options, **{switch: True})  # noqa: E731
        label = f"torch.optim.{floor}({switch}=True)"
        return Implementation(label, "torch", lambda: prepare_optimizer(problem, make, floor_wanted), "floor")

    ours = getattr(paribus, name)
    switches: list[dict[str, bool]] = [{}, {"foreach": False}, {"foreach": True}, {"fused": True}]
    implementations = [
        make_implementation(
            f"paribus.{name}({_format_options(s)})" if s else f"paribus.{name}",
            "paribus",
            _paribus_optimizer(ours, options, **s),
            "ours",
        )
        for s in switches
    ]
    implementations += [
        make_implementation(
            f"adamp.{name}", "adamp", _package_optimizer("adamp", lambda: _authors_class(name), options)
        ),
        make_implementation(
            f"timm.optim.{name}", "timm", _package_optimizer("timm", lambda: _timm_class(name), options)
        ),
        make_floor("foreach"),
        make_floor("fused"),
    ]
    matrices, total = sum(len(s) > 1 for s in shapes), sum(s.numel() for s in shapes)
    fused, most = f"torch.optim.{floor}(fused=True)", 1.5 if device.type == "cuda" else 2.0
    return Case(
        technique,
        f"{name}, {network}, {regime}",
        work=f"One step on {len(shapes)} float32 tensors of {total:,} parameters, {problem.count_projected()} of the "
        f"{matrices} with two or more axes projected.",
        truth=f"move of the worst tensor in {CHECKED_STEPS} steps, relative to that by the rule in float64",
        tolerance=TOLERANCE,
        implementations=tuple(implementations),
        baseline=fused,
        targets=(
            SpeedTarget(
                f"paribus.{name}", f"adamp.{name}", 1 / 1.8, "at least 1.8 times as fast as the authors' package"
            ),
            SpeedTarget(f"paribus.{name}(fused=True)", fused, most, f"at most {most} times torch's fused {floor}"),
        ),
        numbers={"parameters": total, "tensors": len(shapes), "matrices": matrices},
    )


def _memoize(make: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    results: list[list[Tensor]] = []

    def get() -> list[Tensor]:
        if not results:
            results.append(make())
        return results[0]

    return get


def cases(technique: str, scope: Scope) -> Iterator[Case]:
    networks = ["ReXNet-1.0"] if scope.quick else list(NETWORKS)
    for network in networks:
        for regime in REGIMES:
            yield make_case(technique, network, NETWORKS[network](), regime, scope.device)

"""AdamP and SGDP beside the authors' package, timm's copies, and torch's AdamW and SGD as the floor.

On the tensors of whole networks, in both regimes of the projection. Each implementation makes two steps from the same
weights and is compared with the rule in float64; then the very same object is timed at a learning rate so small that
the weights stay what they are, and with them the regime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

import paribus
from paribus.bench.harness.implementation import Case, Contender, Prepared, Scope, Target, Unavailable, need
from paribus.bench.techniques import optimizer_reference
from paribus.bench.techniques.optimizer_problem import (
    CHECKED_STEPS,
    REGIMES,
    Problem,
    Regime,
    Shapes,
    Step,
    apart,
)
from paribus.bench.techniques.optimizer_reference import Settings

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

TOLERANCE = 1e-4  # of the largest error of any tensor's move, relative to that move; float32 leaves about 1e-5
STILL = 1e-12  # a learning rate below the last bit of every weight that matters
SETTINGS = {"adamp": Settings(lr=1e-2, weight_decay=0.05), "sgdp": Settings(lr=0.1, weight_decay=0.01)}


def resnet18() -> Shapes:
    need("timm")
    import timm

    with torch.device("meta"):
        return [p.shape for p in timm.create_model("resnet18").parameters()]


def pit_s() -> Shapes:
    return _shapes(lambda: paribus.pit("s"))


def rexnet() -> Shapes:
    return _shapes(lambda: paribus.rexnet())


def _shapes(make: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return [p.shape for p in make().parameters()]


NETWORKS: dict[str, Callable[[], Shapes]] = {"ResNet-18": resnet18, "PiT-S": pit_s, "ReXNet-1.0": rexnet}


def prepared(problem: Problem, make: Make, wanted: Callable[[], list[Tensor]]) -> Prepared:
    """An optimizer on its own copy of the weights, to be checked and then timed."""
    parameters = [nn.Parameter(w.clone()) for w in problem.weights]
    optimizer = make(parameters)

    @torch.no_grad()
    def error() -> float:
        for k in range(CHECKED_STEPS):
            for p, g in zip(parameters, problem.gradients(parameters, k), strict=True):
                p.grad = g
            optimizer.step()
        found = [apart(p - w, move) for p, w, move in zip(parameters, problem.weights, wanted(), strict=True)]
        _stand_still(problem, parameters, optimizer)
        return max(found)

    return Prepared(error, optimizer.step)


@torch.no_grad()
def _stand_still(problem: Problem, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    gradients = problem.gradients(problem.weights, 0)
    for p, w, g in zip(parameters, problem.weights, gradients, strict=True):
        p.copy_(w)
        p.grad = g
    for group in optimizer.param_groups:
        group["lr"] = STILL


def _ours(make: Callable[..., torch.optim.Optimizer], options: dict[str, Any], **switch: bool) -> Make:
    """One of our paths; Unavailable where this version of paribus does not have it."""

    def made(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        try:
            return make(parameters, **options, **switch)
        except (TypeError, ValueError) as refusal:
            if not switch:
                raise
            raise Unavailable("not available", f"this paribus has no {_written(switch)}") from refusal

    return made


def _written(options: dict[str, bool]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _of(package: str, make: Callable[[], Callable[..., torch.optim.Optimizer]], options: dict[str, Any]) -> Make:
    def made(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        need(package)
        return make()(parameters, **options)

    return made


def _authors(name: str) -> Callable[..., torch.optim.Optimizer]:
    import adamp

    return getattr(adamp, name)


def _timms(name: str) -> Callable[..., torch.optim.Optimizer]:
    import timm.optim

    return getattr(timm.optim, name)


def _plan(technique: str, s: Settings) -> tuple[str, str, dict[str, Any], Step, Step]:
    """Class, torch's class, options of both, our rule and torch's."""
    if technique == "adamp":
        options: dict[str, Any] = {"lr": s.lr, "betas": s.betas, "eps": s.eps, "weight_decay": s.weight_decay}
        return "AdamP", "AdamW", options, optimizer_reference.adamp_step, optimizer_reference.adamw_step
    options = {"lr": s.lr, "momentum": s.momentum, "nesterov": True, "weight_decay": s.weight_decay}
    return "SGDP", "SGD", options, optimizer_reference.sgdp_step, optimizer_reference.sgd_step


def case(technique: str, network: str, shapes: Shapes, regime: Regime, device: torch.device) -> Case:
    """One optimizer on one network's tensors in one regime."""
    problem = Problem(shapes, regime, SETTINGS[technique], device)
    name, floor, options, step, floor_step = _plan(technique, problem.settings)
    wanted, floor_wanted = _once(lambda: problem.moves(step)), _once(lambda: problem.moves(floor_step))

    def entry(label: str, package: str, make: Make, kind: Literal["ours", "public"] = "public") -> Contender:
        return Contender(label, package, lambda: prepared(problem, make, wanted), kind)

    def bound(switch: str) -> Contender:
        make: Make = lambda p: getattr(torch.optim, floor)(p, **options, **{switch: True})  # noqa: E731
        label = f"torch.optim.{floor}({switch}=True)"
        return Contender(label, "torch", lambda: prepared(problem, make, floor_wanted), "floor")

    ours = getattr(paribus, name)
    switches: list[dict[str, bool]] = [{}, {"foreach": False}, {"foreach": True}, {"fused": True}]
    contenders = [
        entry(
            f"paribus.{name}({_written(s)})" if s else f"paribus.{name}", "paribus", _ours(ours, options, **s), "ours"
        )
        for s in switches
    ]
    contenders += [
        entry(f"adamp.{name}", "adamp", _of("adamp", lambda: _authors(name), options)),
        entry(f"timm.optim.{name}", "timm", _of("timm", lambda: _timms(name), options)),
        bound("foreach"),
        bound("fused"),
    ]
    matrices, total = sum(len(s) > 1 for s in shapes), sum(s.numel() for s in shapes)
    fused, most = f"torch.optim.{floor}(fused=True)", 1.5 if device.type == "cuda" else 2.0
    return Case(
        technique,
        f"{name}, {network}, {regime}",
        work=f"One step on {len(shapes)} float32 tensors of {total:,} parameters, {problem.projected()} of the "
        f"{matrices} with two or more axes projected.",
        truth=f"move of the worst tensor in {CHECKED_STEPS} steps, relative to that by the rule in float64",
        tolerance=TOLERANCE,
        contenders=tuple(contenders),
        baseline=fused,
        targets=(
            Target(f"paribus.{name}", f"adamp.{name}", 1 / 1.8, "at least 1.8 times as fast as the authors' package"),
            Target(f"paribus.{name}(fused=True)", fused, most, f"at most {most} times torch's fused {floor}"),
        ),
        numbers={"parameters": total, "tensors": len(shapes), "matrices": matrices},
    )


def _once(make: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
    kept: list[list[Tensor]] = []

    def get() -> list[Tensor]:
        if not kept:
            kept.append(make())
        return kept[0]

    return get


def cases(technique: str, scope: Scope) -> Iterator[Case]:
    networks = ["ReXNet-1.0"] if scope.quick else list(NETWORKS)
    for network in networks:
        for regime in REGIMES:
            yield case(technique, network, NETWORKS[network](), regime, scope.device)

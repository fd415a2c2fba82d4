"""ReXNet and PiT beside timm's networks with the same weights: forward and backward of a training step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
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
from paribus.core.protocols import Spec
from paribus.core.streams import stream, use_generator
from paribus.models.macs import count_macs

TOLERANCE = 1e-4  # relative, of logits and of the gradient of all parameters together


@dataclass(frozen=True)
class Network:
    """One published network, ours and timm's, for images of `size` pixels a side; `arguments` switch dropout off."""

    technique: str
    title: str
    ours: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    timm: str
    size: int
    batch: int
    cuda_batch: int = 128  # batch size on CUDA


@dataclass(frozen=True)
class NetworkProblem:
    """The images, and timm's network, whose weights ours takes and whose results are the reference."""

    network: Network
    scope: Scope

    @property
    def batch(self) -> int:
        return self.network.cuda_batch if self.scope.is_cuda else self.network.batch

    @cached_property
    def images(self) -> Tensor:
        shape = (self.batch, 3, self.network.size, self.network.size)
        x = torch.randn(shape, generator=stream(0, "bench images"))
        return x.to(self.scope.device, memory_format=torch.channels_last)

    @cached_property
    def labels(self) -> Tensor:
        return torch.randint(1000, (self.batch,), generator=stream(0, "bench labels")).to(self.scope.device)

    @cached_property
    def timm_model(self) -> nn.Module:
        require_package("timm")
        import timm

        with use_generator(stream(0, "bench network")):
            model = timm.create_model(self.network.timm, pretrained=False, drop_rate=0.0)
        return model.to(self.scope.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @cached_property
    def truth(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits in evaluation, and the gradient in training as a state dict of timm's names (buffers are 0)."""
        model = copy.deepcopy(self.timm_model)
        logits = self.logits(model)
        self.backward(model)
        gradient = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
        return logits, {**gradient, **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}

    @torch.no_grad()
    def logits(self, model: nn.Module) -> Tensor:
        found = model.eval()(self.images)
        model.train()
        return found

    def backward(self, model: nn.Module, mixed_precision: bool = False) -> None:
        """One training step's forward and backward; gradients are computed anew."""
        for p in model.parameters():
            p.grad = None
        with torch.autocast(self.scope.device.type, torch.bfloat16, enabled=mixed_precision):
            loss = F.cross_entropy(model(self.images), self.labels)
        loss.backward()


def make_paribus_network(network: Network) -> nn.Module:
    """Raises Unavailable if this version of paribus cannot make it."""
    try:
        return network.ours(**network.arguments)
    except TypeError as refusal:
        raise Unavailable("not available", "this paribus cannot make it") from refusal


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def prepare_network(problem: NetworkProblem, ours: bool) -> PreparedImplementation:
    """Ours with timm's weights, or timm's own."""
    if ours:
        model = make_paribus_network(problem.network).to(problem.scope.device)
        paribus.load_timm_weights(model, problem.timm_model.state_dict())
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    else:
        model = problem.timm_model

    def error() -> float:
        logits, gradient = problem.truth
        checked = copy.deepcopy(model)  # a training step changes BatchNorm's statistics
        logits_error = relative_error(problem.logits(checked), logits)
        problem.backward(checked)
        wanted = copy.deepcopy(checked)
        if ours:
            paribus.load_timm_weights(wanted, gradient)
        else:
            wanted.load_state_dict(gradient)
        return max(
            logits_error, relative_error(_flatten(p.grad for p in checked.parameters()), _flatten(wanted.parameters()))
        )

    return PreparedImplementation(error, lambda: problem.backward(model, mixed_precision=problem.scope.is_cuda))


def _flatten(tensors: Iterator[Tensor | None]) -> Tensor:
    return torch.cat([torch.zeros(0) if t is None else t.detach().flatten().cpu() for t in tensors])


def count_cost(network: Network) -> dict[str, int]:
    """Parameters, and MACs of one image; empty for a network that cannot be made here."""
    try:
        with torch.device("meta"):
            meta_model = make_paribus_network(network)
    except Unavailable:
        return {}
    macs = count_macs(meta_model, Spec(1000, 3, network.size, network.size))
    return {"parameters": sum(p.numel() for p in meta_model.parameters()), "MACs": macs}


def make_case(network: Network, scope: Scope) -> Case:
    problem = NetworkProblem(network, scope)
    own, theirs = f"paribus.{network.technique}", f"timm {network.timm}"
    numbers = count_cost(network)
    arithmetic = "bfloat16 autocast" if scope.is_cuda else "float32"
    return Case(
        network.technique,
        f"{network.title}, {network.size} px, batch {problem.batch}",
        work=f"Forward and backward in training, {arithmetic}, channels_last, no dropout"
        + "".join(f", {value:,} {name}" for name, value in numbers.items())
        + ".",
        truth="logits in evaluation and the gradient in training of timm's network, whose weights ours took (float32)",
        tolerance=TOLERANCE,
        implementations=(
            Implementation(own, "paribus", lambda: prepare_network(problem, ours=True), "ours"),
            Implementation(theirs, "timm", lambda: prepare_network(problem, ours=False)),
        ),
        baseline=theirs,
        targets=(SpeedTarget(own, theirs, 1.0, "no slower than timm's network of the same weights"),),
        samples=problem.batch,
        numbers=numbers,
    )


NETWORKS = (
    Network("rexnet", "ReXNet-1.0", paribus.rexnet, {"dropout": 0.0}, "rexnet_100", 224, 8),
    Network("rexnet", "ReXNet-1.0 in eights", paribus.rexnet, {"dropout": 0.0, "divisor": 8}, "rexnetr_100", 224, 8),
    Network("pit", "PiT-Ti", paribus.pit, {"variant": "ti"}, "pit_ti_224", 224, 8),
    Network("pit", "PiT-S", paribus.pit, {"variant": "s"}, "pit_s_224", 224, 4),
)


def cases(technique: str, scope: Scope) -> Iterator[Case]:
    chosen = [network for network in NETWORKS if network.technique == technique]
    for network in chosen[:1] if scope.quick else chosen:
        yield make_case(network, scope)

"""AdamP and SGDP on the device: the reference, the batched form and the kernels against the rule in float64, and a
CUDA graph of a step against the steps themselves. The problems are those of `paribus bench techniques`."""

from typing import Any, Literal

import torch
from torch import nn

from paribus.bench.harness.implementation import Unavailable
from paribus.bench.techniques import optimizers
from paribus.bench.techniques.optimizer_problem import REGIMES
from paribus.core.streams import stream
from paribus.doctor.gpu_check import Mismatch, NotHere, Passed, require_close
from paribus.techniques.adamp import SGDP, AdamP

Name = Literal["adamp", "sgdp"]
CLASSES: dict[Name, Any] = {"adamp": AdamP, "sgdp": SGDP}
SHAPES = [torch.Size(s) for s in ((16, 3, 3, 3), (128, 64, 3, 3), (16,), (1024, 48), (10, 700), (1, 5), (2, 3, 1, 1))]


def check_forms(name: Name, device: torch.device) -> Passed:
    """Every form's move of every tensor in two steps, with all and with no tensor projected."""
    worst = 0.0
    for regime in REGIMES:
        case = optimizers.make_case(name, "a few tensors", SHAPES, regime, device)
        for implementation in case.implementations:
            if implementation.kind != "ours":
                continue
            try:
                error = implementation.prepare().error()
            except Unavailable:
                continue
            if not error <= case.tolerance:
                raise Mismatch(
                    f"{implementation.name}, {regime}: off by {error:.1e} of the move; {case.tolerance:g} is allowed"
                )
            worst = max(worst, error)
    form = describe_fused(name, device)
    return Passed(f"reference, batched and fused ({form}) off by at most {worst:.1e} of a move", {"error": worst})


def describe_fused(name: Name, device: torch.device) -> str:
    """Which form fused=True takes. Raises Mismatch where CUDA falls back from Triton."""
    optimizer = CLASSES[name]([nn.Parameter(torch.ones(4, 4, device=device))], lr=0.1, fused=True)
    if device.type == "cuda" and optimizer.form != "triton":
        raise Mismatch(f"fused=True takes the {optimizer.form} form here, not Triton's; is there a C compiler?")
    return optimizer.form


def check_graph(name: Name, device: torch.device) -> Passed:
    """A captured step, replayed, moves the weights as eager steps do."""
    if device.type != "cuda":
        raise NotHere("CUDA graphs are CUDA's alone")
    for switch in ({}, {"fused": True}, {"foreach": False}):
        wanted, stepped = _start(name, device, switch)
        for _ in range(7):
            stepped.step()
        got, captured = _start(name, device, switch)
        with torch.cuda.device(device):
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):  # what is made at the first step is made outside of the graph
                for _ in range(3):
                    captured.step()
            torch.cuda.current_stream(device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured.step()
            for _ in range(4):
                graph.replay()
            torch.cuda.synchronize(device)
        for w, g in zip(wanted, got, strict=True):
            require_close(f"weights after a replay, {switch or 'batched'}", w.detach(), g.detach(), 1e-4)
    return Passed("three forms, seven steps: as eager steps")


def _start(
    name: Name, device: torch.device, switch: dict[str, bool]
) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    made = [
        nn.Parameter(torch.randn(s, generator=stream(1, "doctor.weight", i)).to(device)) for i, s in enumerate(SHAPES)
    ]
    for i, p in enumerate(made):
        p.grad = torch.randn(p.shape, generator=stream(2, "doctor.gradient", i)).to(device)
    momentum = {"momentum": 0.9} if name == "sgdp" else {}
    return made, CLASSES[name](made, lr=torch.tensor(0.01, device=device), capturable=True, **momentum, **switch)

"""AdamP and SGDP in other people's loops: diagnostics, scalers, schedulers, copies, timm, and the compiled kernel."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.trainings import trained as trained_run
from paribus.core.protocols import HasDiagnostics
from paribus.core.streams import stream
from paribus.models.groups import channel_axis_groups
from paribus.techniques.adamp import SGDP, TIMM, AdamP
from paribus.techniques.adamp.kernels import cpu

COMPILER = cpu.kernel(torch.float32) is not None
both = pytest.mark.parametrize("kind", [AdamP, SGDP])
ways = pytest.mark.parametrize(
    "switch", [{"foreach": False}, {}, {"fused": True}], ids=["reference", "default", "fused"]
)
needs_a_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler: fused=True on a CPU falls back")
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
    generator = stream(0, "usage")
    for p in net.parameters():
        nn.init.normal_(p, std=0.3, generator=generator)
    return net


def loss_of(net: nn.Module, step: int, device: str = "cpu") -> Tensor:
    generator = stream(1, "usage", step)
    x, y = torch.randn(16, 3, 5, 5, generator=generator), torch.randint(4, (16,), generator=generator)
    return nn.functional.cross_entropy(net(x.to(device)), y.to(device))


def trained(net: nn.Module, optimizer: torch.optim.Optimizer, start: int = 0, stop: int = 4) -> list[Tensor]:
    for step in range(start, stop):
        optimizer.zero_grad()
        loss_of(net, step).backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Diagnostics


@both
@ways
def test_diagnostics_tell_what_was_projected_and_change_nothing(kind: Any, switch: dict[str, Any]) -> None:
    net, other = network(), network()
    optimizer = kind(net.parameters(), lr=0.01, diagnostics=True, **switch)
    quiet = kind(other.parameters(), lr=0.01, **switch)
    name = kind.__name__.lower()
    assert isinstance(optimizer, HasDiagnostics)
    assert {key: float(value) for key, value in optimizer.diagnostics().items()} == {
        f"{name}/projected_channel": 0.0,
        f"{name}/projected_layer": 0.0,
        f"{name}/weight_norm": 0.0,
    }
    norm = net[0].weight.detach().norm()
    assert equal(trained(net, optimizer, stop=1), trained(other, quiet, stop=1))
    seen = optimizer.diagnostics()
    assert all(value.ndim == 0 for value in seen.values())
    assert float(seen[f"{name}/projected_channel"]) == 0.5  # the convolution is, the classifier is not
    assert float(seen[f"{name}/projected_layer"]) in (0.0, 0.5)
    if not float(seen[f"{name}/projected_layer"]):
        torch.testing.assert_close(seen[f"{name}/weight_norm"], norm)
    assert quiet.diagnostics() == {}


@pytest.mark.parametrize(("technique", "optimizer"), [("adamp", "adamw"), ("sgdp", "sgd")])
def test_a_run_logs_them_when_asked_and_is_the_same_run(technique: str, optimizer: str, tmp_path: Path) -> None:
    common = ("experiment=quickstart", f"optimizer={optimizer}", "optimizer.lr=0.01", "steps=8ba", "every.log=4ba")
    on = trained_run(tmp_path / "on", *common, "optimizer.diagnostics=true", techniques=(technique,)).events
    off = trained_run(tmp_path / "off", *common, techniques=(technique,)).events
    for with_them, without in zip(on, off, strict=True):
        assert with_them["values"]["train/loss"] == without["values"]["train/loss"]
        told = {key for key in with_them["values"] if key.startswith(technique)}
        assert told == {f"{technique}/{n}" for n in ("projected_channel", "projected_layer", "weight_norm")}
        assert not any(key.startswith(technique) for key in without["values"])
        assert 0 < with_them["values"][f"{technique}/projected_channel"] <= 1


# Other parts of torch


@both
@ways
def test_a_copy_and_a_pickle_go_on_with_the_same_bits(kind: Any, switch: dict[str, Any]) -> None:
    net = network()
    optimizer = kind(net.parameters(), lr=0.01, diagnostics=True, **switch)
    trained(net, optimizer, stop=2)
    twins = [copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))]
    whole = trained(net, optimizer, 2, 4)
    for again, its_optimizer in twins:
        assert its_optimizer.diagnostics()
        assert equal(trained(again, its_optimizer, 2, 4), whole)


@both
def test_hooks_schedulers_and_new_groups_work_as_for_torchs_own(kind: Any) -> None:
    net = network()
    optimizer = kind(net[0].parameters(), lr=0.1)
    optimizer.add_param_group({"params": net[4].parameters(), "lr": 0.2, "channel_axis": 1})
    called: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    trained(net, optimizer, stop=2)
    schedule.step()
    assert called == ["before", "after"] * 2
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0853553, 0.1707107])


@both
@ways
def test_a_scaler_skips_a_step_with_infinite_gradients_and_no_other(kind: Any, switch: dict[str, Any]) -> None:
    net, plain = network(), network()
    optimizer, reference = kind(net.parameters(), lr=0.01, **switch), kind(plain.parameters(), lr=0.01, **switch)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    before = [p.detach().clone() for p in net.parameters()]
    scaler.scale(loss_of(net, 0) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert equal([p.detach() for p in net.parameters()], before)
    assert not optimizer.state
    net.load_state_dict(plain.state_dict())  # BatchNorm has seen a batch
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(net, step)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert equal([p.detach() for p in net.parameters()], trained(plain, reference, stop=3))


@both
def test_a_memory_format_changed_between_steps_is_followed(kind: Any) -> None:
    net, plain = network().double(), network().double()
    optimizer, reference = kind(net.parameters(), lr=0.01), kind(plain.parameters(), lr=0.01)
    for step in range(4):
        net.to(memory_format=torch.channels_last if step % 2 else torch.contiguous_format)
        for model, its_optimizer in ((net, optimizer), (plain, reference)):
            its_optimizer.zero_grad()
            generator = stream(1, "formats", step)
            model(torch.randn(16, 3, 5, 5, generator=generator, dtype=torch.float64)).square().mean().backward()
            its_optimizer.step()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)


def test_groups_name_the_output_channels_of_transposed_convolutions() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1), nn.ConvTranspose1d(2, 4, 2))
    groups = channel_axis_groups(net)
    assert [group["channel_axis"] for group in groups] == [0, 1]
    assert [tuple(p.shape) for p in groups[1]["params"]] == [(3, 8, 3, 3), (2, 4, 2)]
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    optimizer = AdamP(groups[1:], lr=0.01, diagnostics=True)
    nn.Sequential(net[0], net[1])(torch.randn(4, 3, 6, 6, generator=stream(0, "up"))).pow(3).mean().backward()
    optimizer.step()
    assert float(optimizer.diagnostics()["adamp/projected_channel"]) == 1.0  # BatchNorm makes every channel scale-free
    by_input = AdamP([{**groups[1], "channel_axis": 0}], lr=0.01, diagnostics=True)
    by_input.step()
    assert float(by_input.diagnostics()["adamp/projected_channel"]) == 0.0


def test_timms_factory_makes_ours_and_timms_settings_have_a_name() -> None:
    """What `--opt adamp` is in timm's training script, and ours in its place, made by the same factory."""
    from timm.optim import OptimInfo, OptimizerRegistry, create_optimizer_v2  # type: ignore[import-untyped]

    registry = OptimizerRegistry()  # timm.optim._optim_factory.default_registry is the one its script asks
    registry.register(OptimInfo("adamp", AdamP, has_betas=True, defaults=TIMM))
    net, theirs = network(), network()
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.02}
    optimizer = registry.create_optimizer(net, opt="adamp", **options)
    assert type(optimizer) is AdamP
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.02}
    pairs = zip(
        trained(net, optimizer), trained(theirs, create_optimizer_v2(theirs, opt="adamp", **options)), strict=True
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    plain = network()
    other = trained(plain, registry.create_optimizer(plain, opt="adamp", nesterov=False, **options))
    assert not all(
        torch.allclose(a, b.detach(), rtol=1e-4, atol=1e-5) for a, b in zip(other, theirs.parameters(), strict=True)
    )


# The compiled kernel


def test_without_a_compiler_the_default_is_used_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path))
    cpu.kernel.cache_clear()
    cpu._warn_once.cache_clear()
    try:
        net, plain = network(), network()
        with pytest.warns(UserWarning, match=r"fused=True on a CPU needs a C compiler .*no-such-compiler"):
            got = trained(net, AdamP(net.parameters(), lr=0.01, fused=True))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            AdamP([_with_gradient(torch.float32)], fused=True).step()
            AdamP([_with_gradient(torch.float64)], fused=True).step()
        assert equal(got, trained(plain, AdamP(plain.parameters(), lr=0.01)))
    finally:
        cpu.kernel.cache_clear()
        cpu._warn_once.cache_clear()


def _with_gradient(dtype: torch.dtype) -> nn.Parameter:
    p = nn.Parameter(torch.ones(3, 4, dtype=dtype))
    p.grad = torch.ones_like(p)
    return p


@needs_a_compiler
def test_a_compiler_that_fails_is_quoted_in_the_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("#error this does not compile\n")
    monkeypatch.setattr(cpu, "_SOURCE", broken)
    monkeypatch.setenv("PARIBUS_CACHE", str(tmp_path))
    cpu.kernel.cache_clear()
    cpu._warn_once.cache_clear()
    try:
        with pytest.warns(UserWarning, match="needs a C compiler"):
            assert cpu.kernel(torch.float32) is None
        assert not list(tmp_path.glob("*.so"))
    finally:
        cpu.kernel.cache_clear()
        cpu._warn_once.cache_clear()


# On a GPU


@pytest.mark.cuda
@on_cuda
@both
@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"weight_decay": 0.1}], ids=str)
def test_on_cuda_the_forms_are_the_reference(kind: Any, options: dict[str, Any]) -> None:
    def run(**switch: Any) -> list[Tensor]:
        net = network().cuda()
        optimizer = kind(net.parameters(), lr=0.01, **options, **switch)
        for step in range(3):
            optimizer.zero_grad()
            loss_of(net, step, "cuda").backward()
            optimizer.step()
        return [p.detach() for p in net.parameters()]

    reference = run(foreach=False)
    for switch in ({}, {"fused": True}):
        for a, b in zip(run(**switch), reference, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@on_cuda
@both
@pytest.mark.parametrize("switch", [{}, {"fused": True}, {"foreach": False}], ids=str)
def test_on_cuda_a_replayed_graph_steps_as_eagerly(kind: Any, switch: dict[str, Any]) -> None:
    def start() -> tuple[list[nn.Parameter], Any]:
        net = network().cuda()
        made = list(net.parameters())
        optimizer = kind(made, lr=torch.tensor(0.01, device="cuda"), capturable=True, **switch)
        for i, p in enumerate(made):
            p.grad = torch.randn(p.shape, generator=stream(2, "graph", i)).cuda()
        return made, optimizer

    eager, its_optimizer = start()
    for _ in range(7):
        its_optimizer.step()
    made, optimizer = start()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for _ in range(4):
        graph.replay()
    torch.cuda.synchronize()
    assert equal([p.detach() for p in made], [p.detach() for p in eager])

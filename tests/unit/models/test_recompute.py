"""Gradient checkpointing: less is kept for the backward pass, and every number is the one it was without."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import paribus
from paribus.core.protocols import Spec
from paribus.core.streams import stream
from paribus.models import recompute
from paribus.models.mobile import MobileNet
from paribus.models.vit import ViT

SPEC = Spec(classes=7, channels=3, height=32, width=32)
NETS: dict[str, Callable[[], nn.Module]] = {
    "rexnet": lambda: paribus.rexnet(0.5, num_classes=7, strides=32, drop_path=0.3, dropout=0.4),
    "pit": lambda: paribus.pit("ti", 32, num_classes=7, drop_rate=0.2, drop_path=0.3),
    "mobile": lambda: MobileNet(width=0.35, se=True, drop_path=0.3)(SPEC),
    "vit": lambda: ViT(patch=8, heads=2, head_dim=8, drop_rate=0.2, drop_path=0.3)(SPEC),
}
SHORT: dict[str, Callable[[], nn.Module]] = {
    "mobile": lambda: MobileNet(repeats=(1, 1, 2), steps=(8, 16, 24), head=32, se=True)(SPEC),
    "vit": lambda: ViT(patch=8, heads=2, head_dim=8, depths=(2,))(SPEC),
}


def step(net: nn.Module, checkpointing: bool, size: int = 32) -> tuple[dict[str, Tensor], int]:
    """One training step: all gradients, buffers, the output and the generator's state after it; and the bytes that
    autograd kept for it, parameters not counted."""
    net.set_grad_checkpointing(checkpointing)  # type: ignore[operator]
    net.train()
    known = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if (pointer := x.untyped_storage().data_ptr()) not in known:
            kept[pointer] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(3)
    x = torch.randn(4, 3, size, size, generator=stream(0, "x"))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = net(x)
    out.square().sum().backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    found |= {name: b.clone() for name, b in net.named_buffers()}
    return {**found, "output": out.detach(), "generator": torch.get_rng_state()}, sum(kept.values())


def made(name: str, nets: dict[str, Callable[[], nn.Module]] = NETS) -> nn.Module:
    torch.manual_seed(0)
    return nets[name]()


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("name", NETS)
def test_gradients_statistics_and_random_numbers_are_the_same_to_the_bit_and_less_is_kept(name: str) -> None:
    (plain, much), (again, little) = step(made(name), False), step(made(name), True)
    assert len(plain) > 50
    assert differing(plain, again) == []
    assert little < 0.45 * much


def test_negative_control_without_care_for_batch_norm_its_statistics_take_each_batch_in_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, _ = step(made("rexnet"), False)
    monkeypatch.setattr(recompute, "_statistics_untouched", lambda part: recompute.nullcontext())
    found = differing(plain, step(made("rexnet"), True)[0])
    assert found
    assert all("running" in name or "num_batches" in name for name in found)


@pytest.mark.parametrize("name", ["rexnet", "pit"])
def test_negative_control_without_the_generators_states_the_gradients_are_others(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = step(made(name), False)
    careless = recompute.checkpoint
    monkeypatch.setattr(recompute, "checkpoint", lambda *a, **k: careless(*a, preserve_rng_state=False, **k))
    assert any(n.endswith("weight") for n in differing(plain, step(made(name), True)[0]))


def test_the_configs_switch_it_on_and_no_block_is_run_twice_without_gradients() -> None:
    runs: list[int] = []
    for net in (MobileNet(width=0.35, checkpointing=True)(SPEC), ViT(heads=1, checkpointing=True)(SPEC)):
        runs.clear()
        for module in net.modules():
            if type(module).__name__ in ("InvertedBottleneck", "Block"):
                module.register_forward_pre_hook(lambda *_: runs.append(1))
        with torch.no_grad():
            net.eval()(torch.zeros(1, 3, 32, 32))
        blocks = len(runs)
        net(torch.zeros(1, 3, 32, 32)).sum().backward()
        assert len(runs) == 3 * blocks


@pytest.mark.parametrize("name", SHORT)
def test_it_compiles_as_one_graph_and_statistics_still_take_each_batch_in_once(name: str) -> None:
    torch._dynamo.reset()
    plain, _ = step(made(name, SHORT), False)
    net = made(name, SHORT).train()
    net.set_grad_checkpointing(True)  # type: ignore[operator]
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    compiled(torch.randn(4, 3, 32, 32, generator=stream(0, "x"))).square().sum().backward()
    found = dict(net.named_buffers())
    found |= {n: p.grad for n, p in net.named_parameters() if p.grad is not None and "classifier" not in n}
    for statistic, value in found.items():
        torch.testing.assert_close(value, plain[statistic], rtol=1e-3, atol=1e-3)

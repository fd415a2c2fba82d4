"""CutMix and Mixup as tensor code: one graph for every draw, in torch.compile and in a CUDA graph, and no waiting for
the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.gpus import no_waits
from paribus.core.batch import Batch
from paribus.core.progress import Progress
from paribus.techniques import cutmix, mixup
from paribus.techniques.cutmix import BoxMix, CutMix, draw, mix_tensors
from paribus.techniques.mixup import Mixup

N, CLASSES = 6, 5
RULES = {"batch": CutMix(), "sample": CutMix(per="sample", box="timm", prob=0.7)}

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def batch(layout: torch.memory_format = torch.contiguous_format) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(N, 3, 12, 9, generator=g).contiguous(memory_format=layout)
    return x, torch.randint(CLASSES, (N,), generator=g)


def draws(rule: CutMix, n: int) -> list[BoxMix]:
    g = torch.Generator().manual_seed(1)
    return [mix for _ in range(n) if (mix := draw(N, 12, 9, rule, g)) is not None]


def in_a_graph(x: Tensor, y: Tensor, mix: BoxMix) -> tuple[Tensor, Tensor]:
    return cutmix.apply(x, y, x[mix.partners], y[mix.partners], mix, CLASSES)


def eagerly(x: Tensor, y: Tensor, mix: BoxMix) -> tuple[Tensor, Tensor]:
    return mix_tensors(x, y, x, y, mix.partners, mix, CLASSES)


def same(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(got, want, strict=True))


def compiled(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    if backend == "inductor":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # whatever torch raises without a compiler
            pytest.skip(f"inductor needs a C++ compiler: {error}")
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_one_graph_serves_every_draw_and_gives_the_eager_bits(backend: str, layout: Any, rule: str) -> None:
    (x, y), function = batch(layout), compiled(in_a_graph, backend)
    first, *others = draws(RULES[rule], 8)
    assert same(function(x, y, first), eagerly(x, y, first))
    with torch.compiler.set_stance("fail_on_recompile"):
        assert all(same(function(x, y, mix), eagerly(x, y, mix)) for mix in others)
        assert not same(function(x, y, others[0]), eagerly(x, y, others[1]))  # negative control: the draw does matter


def test_negative_control_slices_by_the_box_do_not_fit_in_one_graph() -> None:
    x, y = batch()
    with pytest.raises(Exception, match=r"Unsupported|data-dependent|tolist|item|graph break"):
        compiled(eagerly, "aot_eager")(x, y, draws(RULES["batch"], 1)[0])


def test_mixups_tensor_code_is_one_graph_too() -> None:
    def mixed(x: Tensor, y: Tensor, mix: mixup.BlendMix) -> tuple[Tensor, Tensor]:
        return mixup.apply(x, y, x[mix.partners], y[mix.partners], mix, CLASSES)

    (x, y), function = batch(), compiled(mixed, "aot_eager")
    g = torch.Generator().manual_seed(1)
    for i in range(4):
        mix = mixup.draw(N, 1.0, g)
        assert mix is not None
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = function(x, y, mix)
        assert same(got, mixed(x, y, mix))


@pytest.mark.parametrize("rule", RULES)
def test_static_tensors_take_one_draw_after_the_other(rule: str) -> None:
    (x, y), static = batch(), BoxMix.unmixed(N)
    kept = static.partners, static.box_tlbr, static.lam
    for mix in [*draws(RULES[rule], 4), None]:
        static.copy_(mix)
        assert same(in_a_graph(x, y, static), eagerly(x, y, mix or BoxMix.unmixed(N)))
    assert all(a is b for a, b in zip(kept, (static.partners, static.box_tlbr, static.lam), strict=True))


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_cuda_graph_pastes_a_new_box_at_every_replay(layout: Any, rule: str) -> None:
    images, ids = batch(layout)
    x, y, static = images.cuda(), ids.cuda(), BoxMix.unmixed(N).to("cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # once before the capture, so that nothing is initialised inside it
        in_a_graph(x, y, static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pixels, targets = in_a_graph(x, y, static)
    seen = set()
    for mix in [*draws(RULES[rule], 6), None]:
        static.copy_(mix)
        graph.replay()
        got = pixels.cpu(), targets.cpu()
        assert same(got, eagerly(images, ids, mix or BoxMix.unmixed(N)))
        seen.add(got[0].numpy().tobytes())
    assert len(seen) > 4  # negative control: a graph that kept the first box would show one


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("transform", [*RULES.values(), Mixup()], ids=[*RULES, "mixup"])
def test_the_host_never_waits_for_the_device_and_the_device_gives_the_cpus_bits(transform: Any) -> None:
    images, ids = batch()
    places, at = torch.arange(N), Progress(3, 10, 0)
    want = transform(Batch(images, ids, places, places, N, CLASSES), at)
    there = Batch(images.cuda(), ids.cuda(), places.cuda(), places.cuda(), N, CLASSES)
    with no_waits():
        got = transform(there, at)
    assert torch.equal(got.targets.cpu(), want.targets)
    # a GPU may fuse Mixup's product and sum
    assert torch.allclose(got.inputs.cpu(), want.inputs, rtol=0, atol=0 if isinstance(transform, CutMix) else 1e-6)

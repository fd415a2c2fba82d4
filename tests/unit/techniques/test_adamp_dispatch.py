"""Which form a fused step takes where Triton cannot run, and that no step sends the device a number it could make."""

import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from paribus.core.streams import stream
from paribus.methods.optimizer_parts import make_step_counter
from paribus.techniques.adamp import SGDP, AdamP
from paribus.techniques.adamp import kernels as home
from paribus.techniques.adamp.kernels import batched, dispatch

HERE = torch.device("cpu")
KINDS = [AdamP, lambda params, **options: SGDP(params, lr=0.1, momentum=0.9, **options)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["adamp", "sgdp"])
TakeStep = Callable[..., list[Any]]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TakeStep | None], None]]:
    """Pretend that Triton is installed and a fused step on the CPU is its, with this in its place; None: its import
    fails."""
    choose = dispatch._choose_form
    monkeypatch.setattr(dispatch, "_choose_form", lambda p, group: "triton" if group["fused"] else choose(p, group))
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)

    def put(take_step: TakeStep | None) -> None:
        name = f"{home.__name__}.cuda"
        module = ModuleType(name)
        vars(module)["take_step"] = take_step
        monkeypatch.setitem(sys.modules, name, None if take_step is None else module)  # type: ignore[arg-type]
        monkeypatch.setattr(home, "cuda", module, raising=False)
        if take_step is None:
            monkeypatch.delattr(home, "cuda")

    dispatch._try_triton.cache_clear()
    yield put
    dispatch._try_triton.cache_clear()


def steps(kind: Any, count: int = 3, **options: Any) -> list[nn.Parameter]:
    """Parameters after some steps."""
    made = [
        nn.Parameter(torch.randn(shape, generator=stream(0, "dispatch", *shape)))
        for shape in ((6, 4, 3, 3), (5, 7), (9,))
    ]
    optimizer = kind(made, **options)
    for step in range(count):
        for p in made:
            p.grad = torch.randn(p.shape, generator=stream(1, "dispatch", step, *p.shape))
        optimizer.step()
    return made


def same(a: list[nn.Parameter], b: list[nn.Parameter]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def failing(error: Exception) -> TakeStep:
    def take_step(*_: Any) -> list[Any]:
        raise error

    return take_step


FAILURES = {
    "no compiler": (failing(RuntimeError("Failed to find C compiler.\nGive it by CC")), "Failed to find C compiler"),
    "no libcuda": (failing(AssertionError("libcuda.so cannot found!")), "libcuda.so"),
    "no headers": (failing(OSError(2, "No such file", "Python.h")), r"Python\.h"),
    "no import": (None, "Import|ModuleNotFound"),
}


@kinds
@pytest.mark.parametrize("failure", FAILURES)
def test_where_triton_cannot_launch_the_batched_form_steps_and_one_warning_says_why(
    pretend: Any, kind: Any, failure: str
) -> None:
    take_step, reason = FAILURES[failure]
    pretend(take_step)
    with pytest.warns(RuntimeWarning, match=rf"Triton's kernels do not run on cpu.*{reason}") as told:
        fused = steps(kind, fused=True)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    again = steps(kind, fused=True)  # a second warning would be an error
    assert same(again, fused)
    assert same(again, steps(kind, foreach=True))


@kinds
def test_where_triton_can_launch_it_steps(pretend: Any, kind: Any) -> None:
    sizes: list[int] = []

    def take_step(rule: Any, options: Any, params: Any, cache: Any) -> list[Any]:
        sizes.append(sum(param.weight.numel() for param in params))
        return batched.take_step(rule, options, params, cache)

    pretend(take_step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = steps(kind, fused=True)
        steps(kind, fused=True)
    assert sizes == [1] + 6 * [216 + 35 + 9]  # tried once, then used
    assert same(fused, steps(kind, foreach=True))


def test_a_failure_after_the_trial_is_an_error(pretend: Any) -> None:
    calls: list[int] = []

    def take_step(*_: Any) -> list[Any]:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("an illegal memory access")
        return []

    pretend(take_step)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        steps(AdamP, fused=True)


def test_every_device_is_tried_for_itself(pretend: Any) -> None:
    pretend(failing(RuntimeError("not here")))
    for device in (HERE, torch.device("meta")):
        with pytest.warns(RuntimeWarning, match=rf"on {device}.*not here"):
            assert not dispatch._can_launch_triton(device)
        assert not dispatch._can_launch_triton(device)


def test_nothing_is_launched_for_a_trial_inside_a_capture(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(failing(RuntimeError("launched")))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert dispatch._can_launch_triton(torch.device("cuda", 0))
    pretend(None)
    monkeypatch.setattr(dispatch, "_has_triton", lambda: False)
    with pytest.warns(RuntimeWarning, match="cuda:0"):
        assert not dispatch._can_launch_triton(torch.device("cuda", 0))


def test_without_a_gpu_the_trial_of_the_real_kernels_fails_and_is_survived() -> None:
    dispatch._try_triton.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"do not run on cuda:0 \("):
        assert not dispatch._try_triton(torch.device("cuda", 0))
    dispatch._try_triton.cache_clear()


def test_the_form_that_is_told_is_the_form_that_steps(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with FakeTensorMode():
        optimizer = AdamP([nn.Parameter(torch.ones(3, 3, device="cuda"))], fused=True)
    pretend(failing(RuntimeError("no")))
    with pytest.warns(RuntimeWarning, match="cuda"):
        assert dispatch.describe_form(optimizer) == "batched"
    dispatch._try_triton.cache_clear()
    pretend(lambda *_: [])
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: torch.ones(*shape))  # there is no GPU
    assert dispatch.describe_form(optimizer) == "triton"


class HostCopies(TorchDispatchMode):
    """Refuses to send a device what the host holds, where the host would wait until it is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sources = [x.device.type for x in args if isinstance(x, Tensor)]
        waits = not ((kwargs or {}).get("non_blocking") or (len(args) > 2 and args[2] is True))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default) and waits:
            there = result.device.type if func is torch.ops.aten._to_copy.default else sources[0]
            if there != "cpu" and sources[-1] == "cpu":
                raise AssertionError(f"the host waits in {func}")
        return result


@kinds
@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"maximize": True}, {"foreach": False}], ids=str)
def test_no_step_waits_to_send_the_device_something(kind: Any, options: dict[str, Any]) -> None:
    made = [nn.Parameter(torch.ones(shape, device="meta")) for shape in ((6, 4, 3, 3), (5, 7), (9,))]
    optimizer = kind(made, **options)
    for p in made:
        p.grad = torch.ones_like(p)
    with HostCopies():
        optimizer.step()
        optimizer.step()


def test_negative_control_such_a_copy_is_noticed() -> None:
    with pytest.raises(AssertionError, match="waits"), HostCopies():
        torch.zeros(()).to("meta")
    with pytest.raises(AssertionError, match="waits"), HostCopies():
        torch.empty((), device="meta").copy_(torch.zeros(()))
    with HostCopies():
        torch.zeros(()).to("meta", non_blocking=True)


@pytest.mark.parametrize("value", [0, 7, 7.0, torch.tensor(7), torch.tensor([7.0], dtype=torch.float64)], ids=repr)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_counter_is_a_float32_of_its_own_on_the_device(value: Any, device: str) -> None:
    made = make_step_counter(torch.empty(3, device=device), value)
    assert (made.dtype, made.shape, made.device.type) == (torch.float32, (), device)
    if device == "cpu":
        assert made == (value if not isinstance(value, Tensor) else value.item())
        made += 1
        assert made - 1 == value  # a tensor that was given is not counted

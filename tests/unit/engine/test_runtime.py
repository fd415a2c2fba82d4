"""The runtime's settings as they are applied: which device is current, which modes of torch.compile fit a recipe."""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.trainings import recipe_of
from paribus.core.build import instantiate
from paribus.core.errors import ConfigError
from paribus.core.protocols import DeviceContext
from paribus.engine.runtime import CUDA_GRAPHS, Runtime, apply_runtime, check_graphs, compile_model
from paribus.engine.world import World
from paribus.recipe.build import build_method

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
WITHOUT_GRAPHS = [False, True, "max-autotune-no-cudagraphs"]


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices made current in turn, on a machine that seems to have two GPUs."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("allow_tf32", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    return chosen


@pytest.mark.parametrize(
    ("wanted", "world", "index"),
    [
        ("cuda:1", World(), 1),
        ("cuda:0", World(), 0),
        ("cuda", World(), 0),
        ("auto", World(), 0),
        ("cuda", World(1, 2, 1, 2, "h:1", "torchrun"), 1),
        ("auto", World(3, 4, 1, 2, "h:1", "torchrun"), 1),
    ],
)
def test_the_chosen_gpu_is_the_current_one(current: list[torch.device], wanted: str, world: World, index: int) -> None:
    device = apply_runtime(Runtime(device=wanted, threads=1), world)
    assert current == [device] == [torch.device("cuda", index)]


@pytest.mark.parametrize("wanted", ["cpu", "auto"])
def test_without_a_gpu_none_is_made_current(
    current: list[torch.device], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: wanted == "cpu")
    assert apply_runtime(Runtime(device=wanted, threads=1), World()) == CPU
    assert current == []


def test_what_is_read_when_cuda_starts_is_set_before(
    current: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(os.environ["CUBLAS_WORKSPACE_CONFIG"]))
    apply_runtime(Runtime(device="cuda:1", threads=1, deterministic=True), World())
    assert current == [":4096:8"]
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.parametrize("mode", CUDA_GRAPHS)
def test_graphs_with_accumulation_are_refused_before_anything_is_made(mode: Any) -> None:
    recipe = recipe_of("experiment=smoke", f"runtime.compile={mode}", "update.accumulate=2")
    nothing: Any = None
    with pytest.raises(ConfigError, match=rf"runtime\.compile: found {mode}.*update\.accumulate=2") as refused:
        build_method(recipe, nothing, DeviceContext(CUDA))
    for works in WITHOUT_GRAPHS[1:]:
        assert str(works).lower() in str(refused.value)
    for fits in (replace(recipe, runtime=replace(recipe.runtime, compile=works)) for works in WITHOUT_GRAPHS):
        with pytest.raises(AttributeError):  # there is no data
            build_method(fits, nothing, DeviceContext(CUDA))


@pytest.mark.parametrize("mode", [*CUDA_GRAPHS, *WITHOUT_GRAPHS])
@pytest.mark.parametrize("accumulate", [1, 2, 8])
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_everything_else_goes_together(mode: Any, accumulate: int, device: torch.device) -> None:
    if mode in CUDA_GRAPHS and accumulate > 1 and device == CUDA:
        with pytest.raises(ConfigError):
            check_graphs(mode, accumulate, device)
    else:
        check_graphs(mode, accumulate, device)


def test_the_modes_with_graphs_are_those_of_torch() -> None:
    from torch._inductor import list_mode_options

    options = list_mode_options()
    assert set(CUDA_GRAPHS) == {mode for mode, of in options.items() if of.get("triton.cudagraphs")}
    for mode in options.keys() - {"default", "lite"}:
        assert instantiate(Runtime, {"compile": mode}, "runtime").compile == mode


def test_no_other_mode_is_taken() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.compile"):
        instantiate(Runtime, {"compile": "fastest"}, "runtime")
    net = torch.nn.Linear(1, 1)
    assert compile_model(net, False) is net

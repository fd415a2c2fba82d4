"""The parts of `paribus doctor gpu`: a check, what it may say, and its result."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Part = Literal["correct", "waits", "times"]
CheckState = Literal["ok", "failed", "skipped", "not run"]


class Mismatch(Exception):
    """The device does something else than it should: what, in one line."""


class NotHere(Exception):
    """The check needs something that this device or machine lacks: what."""


@dataclass(frozen=True)
class Passed:
    """What a check that holds has to tell. numbers: for the JSON and the verdict."""

    found: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GpuCheck:
    """seconds: about how long `run` takes on a GPU of this decade; it is begun only where so many are left.

    run: raises Mismatch, NotHere, or anything else, which is a failure too.
    """

    part: Part
    name: str
    seconds: float
    run: Callable[[], Passed]


@dataclass(frozen=True)
class CheckResult:
    part: Part
    name: str
    state: CheckState
    found: str
    seconds: float = 0.0
    numbers: Mapping[str, float] = field(default_factory=dict)


def free_memory() -> None:
    """Give a device's memory back: networks hold their tensors in cycles of references."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def require_equal(what: str, here: Tensor, there: Tensor) -> None:
    """Raise Mismatch unless two tensors, on any devices, have the same bits."""
    there = there.to(here.device)
    if here.shape != there.shape or not torch.equal(here, there):
        raise Mismatch(f"{what}: {describe_difference(here, there)}")


def require_close(what: str, here: Tensor, there: Tensor, tolerance: float) -> float:
    """The largest difference. Raises Mismatch if it is beyond the tolerance, or not a number."""
    there = there.to(here.device)
    if here.shape != there.shape:
        raise Mismatch(f"{what}: shapes {tuple(here.shape)} and {tuple(there.shape)}")
    worst = float((here.double() - there.double()).abs().max()) if here.numel() else 0.0
    if not worst <= tolerance:
        raise Mismatch(f"{what}: {describe_difference(here, there)}; at most {tolerance:g} is allowed")
    return worst


def describe_difference(here: Tensor, there: Tensor) -> str:
    if here.shape != there.shape:
        return f"shapes {tuple(here.shape)} and {tuple(there.shape)}"
    apart = (here.double() - there.double()).abs()
    return f"{float((apart != 0).double().mean()):.2%} of the numbers differ, by up to {float(apart.max()):.3g}"
